"""Events are kept once, read by user, taken into the log once, and forgotten for good."""

import datetime
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs.events import opening
from recmeta.logs.events.store import Appended, EventStore, PastEvent, StoredEvent
from recmeta.logs.mapping import LogMapping
from recmeta.steps.data import ingest, kept_events
from recmeta.steps.upkeep import backup, forget, maintenance
from recmeta.workspace import Workspace

NOON = 1_790_000_000_000_000
"""In September 2026."""


def event(number: int, user: str = "u", item: str = "i1", time: int | None = None) -> StoredEvent:
    return StoredEvent(
        event_id=f"e{number}", user_id=user, item_id=item, event="rating", value=4.0, timestamp=time
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def store(workspace: Workspace) -> EventStore:
    return opening.make_event_store(workspace)


def test_an_event_counts_once_and_a_sender_has_all_or_nothing(store: EventStore) -> None:
    first, timed = event(1), event(2, time=NOON)
    assert store.append([[first, timed], [first]]) == [
        Appended(accepted=2),
        Appended(duplicates=1),
    ]
    other = event(2, time=NOON + 1)
    assert store.append([[event(3), other], [event(4)]]) == [
        Appended(conflict=1),
        Appended(accepted=1),
    ]
    assert store.pending()[1].height == 3  # e1, e2, e4
    assert store.append([[event(3)]]) == [Appended(accepted=1)]


def test_the_newest_events_of_a_user_are_read_in_order(store: EventStore) -> None:
    times = (3, 1, 2, 2)
    store.append([[event(n, item=f"i{n}", time=NOON + t) for n, t in enumerate(times)]])
    store.append([[event(9, user="other", time=NOON)]])
    found = store.of_users(["u", "nobody"], 3)
    assert found == {
        "u": [PastEvent(f"i{n}", "rating", 4.0, NOON + times[n]) for n in (2, 3, 0)],
    }


def test_what_is_said_is_kept_though_the_process_is_killed(workspace: Workspace) -> None:
    """And synced: that a power failure would not take it either is SQLite's to promise."""
    script = f"""
import os, signal
from recmeta.logs.events.opening import make_event_store
from recmeta.logs.events.store import *
from recmeta.workspace import Workspace
store = make_event_store(Workspace({workspace.location!r}))
one = StoredEvent(event_id="e", user_id="u", item_id="i", event="click", value=1.0, timestamp=None)
assert store.append([[one]]) == [Appended(accepted=1)]
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    store = opening.event_store(workspace)
    assert store is not None
    assert [one.item_id for one in store.of_users(["u"], 10)["u"]] == ["i"]
    database = store._database
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert os.stat(store.path).st_mode & 0o777 == 0o600


def test_ingest_takes_each_event_in_once(
    workspace: Workspace, store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([[event(1, time=NOON), event(2, user="NA", item="i2", time=NOON + 1)]])
    with monkeypatch.context() as killed:
        killed.setattr(EventStore, "note_ingested", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ingest.take_in_events(workspace)
    store.append([[event(3, time=NOON + 2)]])
    counts = ingest.take_in_events(workspace)
    assert counts == {"rows_read": 3, "accepted": 1, "duplicates": 2, "quarantined": 0}
    assert ingest.take_in_events(workspace)["rows_read"] == 0
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,value\nx,i1,3\n")
    store.append([[event(4, user="y")]])
    manifest = ingest.run(LogMapping(path=str(log), value_col="value"), workspace)
    assert (manifest.outputs.num_events, manifest.counts["accepted"]) == (1, 1)
    rows = pl.read_delta(workspace.table_uri(schema.INTERACTIONS))
    assert sorted(rows["user_id"]) == ["NA", "u", "u", "x", "y"]
    assert set(rows.filter(pl.col("user_id") != "x")["event"]) == {"rating"}
    assert len(store.of_users(["u", "y"], 10)["u"]) == 2  # requests read them still


def test_rows_that_come_due_with_events_are_told_of(
    workspace: Workspace, store: EventStore, tmp_path: Path
) -> None:
    first, second = (tmp_path / name for name in ("first.csv", "second.csv"))
    first.write_text("user_id,item_id,timestamp\nx,i1,2026-09-01\nx,i2,2026-09-20\n")
    second.write_text("user_id,item_id,timestamp\ny,i1,2026-09-02\n")
    fields = {"time_col": "timestamp", "time_unit": "iso", "max_bad_share": 1.0}
    then = datetime.datetime(2026, 9, 10, tzinfo=datetime.UTC)
    ingest.run(LogMapping(path=str(first), **fields), workspace, now=then)
    store.append([[event(1, time=NOON)]])
    later = then + datetime.timedelta(days=20)
    outputs = ingest.run(LogMapping(path=str(second), **fields), workspace, now=later).outputs
    assert (outputs.came_due, outputs.num_events) == (1, 1)


def test_many_events_are_taken_in_block_by_block(
    workspace: Workspace, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([[event(number, user=f"u{number}", time=NOON) for number in range(5)]])
    monkeypatch.setattr(kept_events, "MOST_PENDING", 2)
    counts = ingest.take_in_events(workspace)
    assert counts == {"rows_read": 5, "accepted": 5, "duplicates": 0, "quarantined": 0}
    assert store.pending()[1].height == 0
    assert pl.read_delta(workspace.table_uri(schema.INTERACTIONS))["source"].n_unique() == 3


def test_maintenance_deletes_what_the_log_has_had_for_long(
    workspace: Workspace, store: EventStore
) -> None:
    store.append([[event(1)]])
    ingest.take_in_events(workspace)
    store.append([[event(2)]])
    now = datetime.datetime.now(datetime.UTC)
    assert maintenance.expire(workspace, now=now)["events"] == 0
    later = now + datetime.timedelta(days=15)
    assert maintenance.expire(workspace, now=later)["events"] == 1
    assert store.pending()[1].height == 1  # the log does not have it yet


def test_a_user_is_forgotten_and_a_backup_has_the_others(
    workspace: Workspace, store: EventStore, tmp_path: Path
) -> None:
    store.append([[event(1, user="someone-to-forget"), event(2, user="v")]])
    ingest.take_in_events(workspace)
    assert forget.run(workspace, ["someone-to-forget"]).removed["events"] == 1
    for path in store.path.parent.iterdir():
        assert b"someone-to-forget" not in path.read_bytes(), path
    assert list(store.of_users(["someone-to-forget", "v"], 10)) == ["v"]
    backup.run(workspace, str(tmp_path / "copy"))
    copied = opening.event_store(Workspace(tmp_path / "copy"))
    assert copied is not None
    assert os.stat(copied.path).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "copy").st_mode & 0o777 == 0o700
    assert list(copied.of_users(["v"], 10)) == ["v"]


def test_alerts_that_mention_a_forgotten_user_are_deleted(
    workspace: Workspace, store: EventStore
) -> None:
    store.append([[event(1, user="mara7")]])
    ingest.take_in_events(workspace)
    for name, said in (("a", "the cell 'mara7' is no number"), ("b", "mara77 and mara")):
        (workspace / "alerts").write_json(f"{name}.json", {"what": said})
    assert forget.run(workspace, ["mara7"]).removed["alerts"] == 1
    assert (workspace / "alerts").names() == ["b.json"]


def test_what_is_no_place_for_events_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    assert opening.event_store(workspace) is None
    path = tmp_path / "ws" / "events" / "events.sqlite"
    path.parent.mkdir(parents=True)
    path.write_text("not a database" * 100)
    with pytest.raises(UserError, match="restore the file from a backup"):
        opening.event_store(workspace)
    path.unlink()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(UserError, match="newer version of recmeta"):
        opening.event_store(workspace)
