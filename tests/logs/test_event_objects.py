"""Events of a workspace in an object store: each is kept once, whichever server it was sent to."""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.fs as pafs
import pytest
from object_store import BUCKET, object_store

from recmeta import schema
from recmeta.endpoint.events.histories import UserHistories
from recmeta.logs.events.objects import ObjectEventStore
from recmeta.logs.events.opening import event_store
from recmeta.logs.events.store import Appended, StoredEvent
from recmeta.logs.mapping import LogMapping
from recmeta.steps.data import ingest
from recmeta.steps.upkeep import forget, maintenance
from recmeta.workspace import Folder, Workspace

NOON = 1_790_000_000_000_000
"""In September 2026."""


def event(number: int, user: str = "u", time: int | None = NOON) -> StoredEvent:
    return StoredEvent(
        event_id=f"e{number}", user_id=user, item_id="i1", event="rating", value=4.0, timestamp=time
    )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """What is no local file system, counts as an object store."""
    return Folder(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), "events")


def users(store: ObjectEventStore, *user_ids: str) -> list[str]:
    return list(store.of_users(user_ids, 10))


def test_two_servers_keep_each_event_once(folder: Folder) -> None:
    one, other = ObjectEventStore(folder), ObjectEventStore(folder)
    assert one.append([[event(1), event(2)], [event(1)]]) == [
        Appended(accepted=2),
        Appended(duplicates=1),
    ]
    reader = one.another()  # another thread of that server reads it at once
    assert users(reader, "u") == ["u"]
    assert users(other, "u") == []
    other.append([[event(2), event(3, "v")]])  # sent again, to another server
    other.refresh()
    one.refresh()
    assert len(reader.of_users(["u"], 10)["u"]) == len(other.of_users(["u"], 10)["u"]) == 2
    assert users(reader, "v") == ["v"]
    assert one.append([[event(3, "w")]]) == [Appended(conflict=0)]
    assert len(folder.names()) == 2  # a refusal is no object


def test_what_the_object_store_does_not_take_is_not_kept(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectEventStore(folder)
    with monkeypatch.context() as broken:
        broken.setattr(Folder, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(OSError, match="away"):
            store.append([[event(1)]])
    assert users(store, "u") == []
    assert store.append([[event(1)]]) == [Appended(accepted=1)]


def test_ingested_events_are_one_object_and_count_once(folder: Folder) -> None:
    server = ObjectEventStore(folder)
    for number in range(5):
        server.append([[event(number)]])
    taking = ObjectEventStore(folder)
    last, rows = taking.pending(3)
    assert rows.height == 3
    assert taking.note_ingested(last) == 3
    assert len((folder / "ingested").names()) == 1
    last, rows = taking.pending(3)
    assert rows.height == 2
    taking.note_ingested(last)
    assert taking.pending(3)[1].is_empty()
    assert folder.names() == ["ingested"]
    ObjectEventStore(folder).append([[event(0)]])  # a server that has it already
    late = StoredEvent(**{**vars(event(0)), "timestamp": None})
    assert server.append([[late]]) == [Appended(duplicates=1)]
    server.refresh()
    assert len(server.of_users(["u"], 10)["u"]) == 5
    assert ObjectEventStore(folder).pending()[1].is_empty()


def test_an_ingest_that_was_killed_is_done_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ObjectEventStore(folder).append([[event(1)]])
    taking = ObjectEventStore(folder)
    last, _ = taking.pending()
    with monkeypatch.context() as killed:
        killed.setattr(Folder, "delete", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            taking.note_ingested(last)
    assert len(folder.names()) == 2  # pending and ingested
    again = ObjectEventStore(folder)
    assert again.pending()[1].is_empty()
    assert len(again.of_users(["u"], 10)["u"]) == 1


def test_the_forgotten_and_the_old_leave_every_object(folder: Folder, tmp_path: Path) -> None:
    server = ObjectEventStore(folder)
    server.append([[event(1, "someone-to-forget"), event(2, "v")]])
    store = ObjectEventStore(folder)
    store.note_ingested(store.pending()[0])
    server.append([[event(3, "someone-to-forget")], [event(4, "v")]])
    assert ObjectEventStore(folder).forget(["someone-to-forget"]) == 2
    for path in tmp_path.rglob("*.json"):
        assert b"someone-to-forget" not in path.read_bytes(), path
    server.refresh()
    assert users(server, "someone-to-forget", "v") == ["v"]
    assert len(server.of_users(["v"], 10)["v"]) == 2
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    assert ObjectEventStore(folder).expire(later) == 1
    server.refresh()
    assert len(server.of_users(["v"], 10)["v"]) == 1  # which the log does not have yet


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with object_store() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        yield Workspace(f"s3://{BUCKET}/ws")


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
def test_a_server_of_a_workspace_in_s3(bucket: Workspace, tmp_path: Path) -> None:
    """What the endpoint does, then the next ingest, maintenance and forgetting."""
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,value\nx,i1,3\nu,i2,4\n")
    ingest.run(LogMapping(path=str(log), value_col="value"), bucket)
    assert event_store(bucket) is None
    histories = UserHistories(bucket)
    histories.writer.append([[event(1), event(2, "y")]])
    assert [past.item_id for past in histories.of(["u"])["u"].past] == ["i2", "i1"]
    assert set(histories.of(["x", "y", "z"])) == {"x", "y"}
    assert ingest.take_in_events(bucket)["accepted"] == 2
    assert ingest.take_in_events(bucket)["rows_read"] == 0
    rows = pl.read_delta(
        bucket.table_uri(schema.INTERACTIONS), storage_options=bucket.storage_options
    )
    assert sorted(rows["user_id"]) == ["u", "u", "x", "y"]
    histories.refresh()
    assert len(histories.of(["u"])["u"].past) == 2
    assert forget.run(bucket, ["y"]).removed["events"] == 1
    histories.refresh()
    assert set(histories.of(["u", "y"])) == {"u"}
    assert maintenance.expire(bucket)["events"] == 0
