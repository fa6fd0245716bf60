"""Ingest end to end: the sums add up, twice is once, and a kill at any point leaves no trace."""

import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_store import BUCKET, object_store
from polars.testing import assert_frame_equal

from recmeta.errors import UserError
from recmeta.logs.checking import contracts
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.settling import came_due
from recmeta.logs.settling.budget import Budget
from recmeta.logs.settling.next_version import NextVersion
from recmeta.schema import INTERACTIONS, ITEMS, QUARANTINE, USERS, Table
from recmeta.steps.data import ingest
from recmeta.workspace import Workspace

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
HEADER = "user_id,item_id,timestamp,rating\n"
SHARED = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data"))


def mapping(path: Path, **fields: Any) -> LogMapping:
    defaults = {"time_col": "timestamp", "value_col": "rating", "scale": "1:5"}
    defaults["earliest_time"] = "1970-01-01"  # of the few seconds that these logs are about
    return LogMapping(path=str(path), **defaults | fields)


def log(path: Path, rows: str) -> Path:
    path.write_text(HEADER + rows)
    return path


def table(workspace: Workspace, which: Table) -> pl.DataFrame:
    """A table without what differs from run to run, in a fixed order."""
    frame = pl.read_delta(workspace.table_uri(which)).drop("ingested_at", strict=False)
    return frame.sort(pl.all().exclude(pl.List))


def sums(counts: dict[str, int]) -> tuple[int, ...]:
    assert counts["accepted"] + counts["duplicates"] + counts["quarantined"] == counts["rows_read"]
    return tuple(counts[k] for k in ("rows_read", "accepted", "duplicates", "quarantined"))


def values(workspace: Workspace) -> list[tuple[str, str, float]]:
    return table(workspace, INTERACTIONS).select("user_id", "item_id", "value").rows()


def test_a_log_with_every_fate_of_a_row(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    rows = "u,i,1,5\nu,i,1,5\nu,j,2,3\nu,j,2,4\n\nu,k,noon,9\nv,i,3,1\n"
    manifest = ingest.run(
        mapping(log(tmp_path / "a.csv", rows), max_bad_share=0.5), workspace, now=NOW
    )
    assert sums(manifest.counts) == (6, 3, 1, 2)
    assert values(workspace) == [("u", "i", 5.0), ("u", "j", 4.0), ("v", "i", 1.0)]
    quarantine = table(workspace, QUARANTINE).select("file", "line", "rules", "raw")
    assert quarantine.rows() == [
        ("a.csv", 4, ["superseded"], "u,j,2,3"),
        ("a.csv", 7, ["unparsable_time", "value_out_of_scale"], "u,k,noon,9"),
    ]
    assert manifest.outputs.tables == {
        "interactions": 1,
        "quarantine": 1,
        "users": 0,
        "items": 0,
    }


def test_twice_is_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    first = ingest.run(mapping(log(tmp_path / "a.csv", "u,i,1,5\nv,j,2,3\n")), workspace, now=NOW)
    again = ingest.run(mapping(tmp_path / "a.csv"), workspace)
    assert again.reused
    assert again.counts == first.counts
    # The same rows in another file are duplicates, and no table gets a new version.
    other = ingest.run(mapping(log(tmp_path / "b.csv", "v,j,2.0,3.0\nu,i,1,5\n")), workspace)
    assert not other.reused
    assert sums(other.counts) == (2, 0, 2, 0)
    assert other.outputs.tables == first.outputs.tables


def test_late_rows_are_merged_and_corrections_replace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    first = ingest.run(mapping(log(tmp_path / "a.csv", "u,i,5,5\nv,j,6,3\n")), workspace, now=NOW)
    late = ingest.run(
        mapping(log(tmp_path / "b.csv", "u,i,5,1\nu,z,1,2\nv,j,6,3\n")), workspace, now=NOW
    )
    assert sums(late.counts) == (3, 2, 1, 0)
    assert values(workspace) == [("u", "i", 1.0), ("u", "z", 2.0), ("v", "j", 3.0)]
    replaced = table(workspace, QUARANTINE).row(0, named=True)
    assert replaced["source"] == late.outputs.source
    assert (replaced["file"], replaced["line"]) == (first.outputs.source, 0)
    assert replaced["rules"] == ["superseded"]
    assert '"value":5.0' in replaced["raw"]


def test_sources_without_times(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    ingest.run(
        mapping(log(tmp_path / "a.csv", "u,i,,5\nv,j,,3\n"), time_col=None), workspace, now=NOW
    )
    again = ingest.run(
        mapping(log(tmp_path / "b.csv", "u,i,,5\nv,j,,4\n"), time_col=None), workspace, now=NOW
    )
    assert sums(again.counts) == (2, 1, 1, 0)
    assert values(workspace) == [("u", "i", 5.0), ("v", "j", 4.0)]


def test_too_many_bad_rows_publish_nothing_but_can_be_looked_at(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    path = log(tmp_path / "a.csv", "u,i,1,9\nu,j,1,5\nu,k,1,8\nu,l,1,7\nu,m,1,6\n,m,1,6\n")
    with pytest.raises(UserError) as error:
        ingest.run(mapping(path), workspace, now=NOW)
    message = str(error.value)
    assert "5 of 6 rows (83.3%)" in message
    assert "value_out_of_scale (5 rows, such as a.csv:2, a.csv:4, a.csv:5)" in message
    assert workspace.table_uri(QUARANTINE) in message
    assert (workspace / "tables").names() == ["quarantine"]
    assert workspace.exists("format.json")
    assert table(workspace, QUARANTINE).height == 5
    # Allowed after all, the run leaves the same rows there once.
    manifest = ingest.run(mapping(path, max_bad_share=1.0), workspace, now=NOW)
    assert sums(manifest.counts) == (6, 1, 0, 5)
    assert table(workspace, QUARANTINE).height == 5


def test_a_log_that_cannot_be_read_leaves_no_workspace_behind(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    with pytest.raises(UserError, match="has no column 'stars'"):
        ingest.run(mapping(log(tmp_path / "a.csv", "u,i,1,5\n"), value_col="stars"), workspace)
    assert workspace.names() == []


def test_an_empty_log(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    manifest = ingest.run(mapping(log(tmp_path / "a.csv", "")), workspace, now=NOW)
    assert sums(manifest.counts) == (0, 0, 0, 0)
    for which in (INTERACTIONS, QUARANTINE, USERS, ITEMS):
        stored = DeltaTable(workspace.table_uri(which)).schema().to_arrow()
        assert [field.name for field in stored] == which.columns.names


def items_mapping(path: Path, items: Path, **columns: Attribute) -> LogMapping:
    return mapping(path, items=AttributeSource(path=str(items), id_col="id", columns=columns))


def test_attributes_are_upserted(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    path = log(tmp_path / "a.csv", "u,i,1,5\n")
    items = tmp_path / "items.csv"
    title, year = Attribute(kind="text"), Attribute(kind="numeric")
    items.write_text("id,title,year\n1,One,1999\n2,Two,\n,Nobody,1\n")
    first = ingest.run(items_mapping(path, items, title=title, year=year), workspace, now=NOW)
    assert first.counts["items"] == 2
    assert table(workspace, QUARANTINE)["rules"].to_list() == [["missing_item_id"]]
    items.write_text("id,title,genre\n2,,x\n3,Three,y\n")
    genre = Attribute(kind="categorical")
    second = ingest.run(items_mapping(path, items, title=title, genre=genre), workspace, now=NOW)
    assert second.counts["duplicates"] == 1
    assert table(workspace, ITEMS).drop("valid_from").rows() == [
        ("1", "One", 1999.0, None),
        ("2", "Two", None, "x"),
        ("3", "Three", None, "y"),
    ]
    items.write_text("id,title,genre\n3,Three,y\n")
    third = ingest.run(items_mapping(path, items, title=title, genre=genre), workspace, now=NOW)
    assert third.outputs.tables["items"] == second.outputs.tables["items"]
    with pytest.raises(UserError, match="'title' as String already"):
        ingest.run(items_mapping(path, items, title=Attribute(kind="numeric")), workspace)


ROW = st.tuples(
    st.sampled_from(["u", "v", "wé"]), st.sampled_from("ijk"), st.integers(0, 2), st.integers(1, 5)
)
BAD_ROW = st.sampled_from(
    ["", "u,i", "u,i,1,2,3", ",i,1,1", "u,i,x,1", "u,i,1,9", '"u,i,1,1', "u,i,1,nan"]
)


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.one_of(ROW, BAD_ROW), max_size=15))
def test_the_sums_add_up_and_good_rows_arrive(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int, int] | str]
) -> None:
    folder = tmp_path_factory.mktemp("sums")
    workspace = Workspace(folder / "ws")
    text = "".join((r if isinstance(r, str) else ",".join(map(str, r))) + "\n" for r in rows)
    path = folder / "a.csv"
    path.write_text(HEADER + text, encoding="utf-8")
    manifest = ingest.run(mapping(path, max_bad_share=1.0), workspace, now=NOW)
    assert manifest.counts["rows_read"] == sum(row != "" for row in rows)
    assert sums(manifest.counts)[3] == table(workspace, QUARANTINE).height
    last = {(r[0], r[1], r[2]): float(r[3]) for r in rows if not isinstance(r, str)}
    stored = table(workspace, INTERACTIONS).select(
        "user_id", "item_id", pl.col("timestamp").dt.epoch("s"), "value"
    )
    assert {row[:3]: row[3] for row in stored.rows()} == last


KILLED = """
import datetime, os, signal, sys
from pathlib import Path
from recmeta.logs.mapping import load_mapping
from recmeta.steps.data import ingest
from recmeta.workspace import Workspace

calls = int(sys.argv[3])
def progress(what, done, total):
    global calls
    calls -= 1
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)

now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
ingest.run(load_mapping(Path(sys.argv[1])), Workspace(sys.argv[2]), now=now, progress=progress)
"""


def kill_scene(folder: Path) -> Path:
    """A log that appends, replaces, repeats and errs, with items; returns its mapping file."""
    log(folder / "old.csv", "u,i,1,5\nv,j,2,3\n")
    rows = "u,i,1,4\nu,z,1,2\nu,z,1,3\nv,j,2,3\nw,k,9,9\n"
    log(folder / "new.csv", rows + "".join(f"x{n},i,{n},5\n" for n in range(2000)))
    (folder / "items.csv").write_text("id,title\ni,Eye\nj,Jay\n")
    file = folder / "new.toml"
    file.write_text(
        'path = "new.csv"\ntime_col = "timestamp"\nvalue_col = "rating"\nscale = "1:5"\n'
        'earliest_time = "1970-01-01"\n[items]\npath = "items.csv"\nid_col = "id"\n'
        '[items.columns.title]\nkind = "text"\n'
    )
    return file


def state(workspace: Workspace) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    which = (INTERACTIONS, QUARANTINE, USERS, ITEMS)
    versions = {t.name: DeltaTable(workspace.table_uri(t)).version() for t in which}
    return {t.name: table(workspace, t) for t in which}, versions


def ingest_in_another_process(file: Path, workspace: Path, calls: int) -> int:
    command = [sys.executable, "-c", KILLED, str(file), str(workspace), str(calls)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_killed_anywhere_and_run_again_is_as_if_never_killed(tmp_path: Path) -> None:
    file = kill_scene(tmp_path)
    whole = Workspace(tmp_path / "whole")
    ingest.run(mapping(tmp_path / "old.csv"), whole, now=NOW)
    assert ingest_in_another_process(file, tmp_path / "whole", 0) == 0
    expected_tables, expected_versions = state(whole)
    expected = whole / "manifests" / "ingest"
    for calls in range(1, 20, 1 if os.environ.get("RECMETA_SLOW") == "1" else 3):
        workspace = Workspace(tmp_path / f"killed{calls}")
        ingest.run(mapping(tmp_path / "old.csv"), workspace, now=NOW)
        code = ingest_in_another_process(file, tmp_path / f"killed{calls}", calls)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert ingest_in_another_process(file, tmp_path / f"killed{calls}", 0) == 0
        tables, versions = state(workspace)
        assert versions == expected_versions
        for name, frame in tables.items():
            assert_frame_equal(frame, expected_tables[name])
        done = workspace / "manifests" / "ingest"
        assert done.names() == expected.names()
        for name in done.names():
            assert done.read_json(name).get("counts") == expected.read_json(name).get("counts")
    assert calls > 5  # the kills before, between and after all commits have been tried


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
@pytest.mark.slow
def test_killed_at_any_time_and_run_again(tmp_path: Path) -> None:
    file = kill_scene(tmp_path)
    whole = Workspace(tmp_path / "whole")
    started = time.monotonic()
    assert ingest_in_another_process(file, tmp_path / "whole", 0) == 0
    seconds = time.monotonic() - started
    expected_tables, expected_versions = state(whole)
    for share in (0.7, 0.8, 0.9, 0.97):
        place = tmp_path / f"killed{share}"
        command = [sys.executable, "-c", KILLED, str(file), str(place), "0"]
        with subprocess.Popen(command) as process:
            time.sleep(seconds * share)
            process.kill()
        assert ingest_in_another_process(file, place, 0) == 0
        tables, versions = state(Workspace(place))
        assert versions == expected_versions
        for name, frame in tables.items():
            assert_frame_equal(frame, expected_tables[name])


@pytest.mark.skipif(
    not (SHARED / "ml-100k").exists(), reason="no shared data (RECMETA_SHARED_DATA)"
)
def test_movielens_100k_in_parquet(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    folder = SHARED / "ml-100k"
    columns = {"title": Attribute(kind="text"), "genres": Attribute(kind="multi")}
    manifest = ingest.run(
        mapping(
            folder / "interactions.parquet",
            items=AttributeSource(
                path=str(folder / "items.parquet"), id_col="item_id", columns=columns
            ),
        ),
        workspace,
    )
    assert sums(manifest.counts) == (100_000, 100_000, 0, 0)
    assert manifest.counts["items"] == 1682
    histogram = table(workspace, INTERACTIONS)["value"].value_counts(sort=True).rows()
    assert dict(histogram) == {1: 6110, 2: 11370, 3: 27145, 4: 34174, 5: 21201}


def test_a_workspace_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with object_store() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        workspace = Workspace(f"s3://{BUCKET}/ws")
        ingest.run(mapping(log(tmp_path / "a.csv", "u,i,1,5\nv,j,2,3\n")), workspace, now=NOW)
        late = mapping(log(tmp_path / "b.csv", "u,i,1,4\nw,k,2,3\n"))
        assert sums(ingest.run(late, workspace, now=NOW).counts) == (2, 2, 0, 0)
        assert ingest.run(late, workspace, now=NOW).reused
        assert values(workspace) == [("u", "i", 4.0), ("v", "j", 3.0), ("w", "k", 3.0)]
        assert table(workspace, QUARANTINE).height == 1
        again = LogMapping(path=f"{workspace.table_uri(INTERACTIONS)}", time_col="timestamp",
                           value_col="value", event_col="event")  # fmt: skip
        assert sums(ingest.run(again, workspace, now=NOW).counts) == (3, 0, 3, 0)


@pytest.mark.slow
def test_a_million_rows_in_seconds(tmp_path: Path) -> None:
    count = 1_000_000
    numbers = pl.int_range(count, eager=True)
    pl.DataFrame(
        {
            "user_id": numbers % 6000,
            "item_id": numbers // 6000,
            "timestamp": 900_000_000 + numbers,
            "rating": numbers % 5 + 1,
        }
    ).write_csv(tmp_path / "big.csv")
    with (tmp_path / "big.csv").open("ab") as file:
        file.write(b'broken\n"u,i,1,1\n\xff,i,1,1\n')
    started = time.process_time()  # others may keep this machine busy
    manifest = ingest.run(mapping(tmp_path / "big.csv"), Workspace(tmp_path / "ws"), now=NOW)
    assert sums(manifest.counts) == (count + 3, count, 0, 3)
    assert time.process_time() - started < 20


def test_a_workspace_whose_tables_could_not_be_read_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,value\na,x,3\n")
    place = tmp_path / "two words"
    with pytest.raises(UserError, match=r"the workspace is .*two words.*plain letters"):
        ingest.run(LogMapping(path=str(tmp_path / "log.csv")), Workspace(place))
    assert not place.exists()


def test_the_quarantine_says_what_could_be_read_of_a_row(tmp_path: Path) -> None:
    """As its source spells it; also in a quarantine that an earlier version made."""
    workspace = Workspace(tmp_path / "ws")
    names = ["source", "file", "line", "rules", "raw", "ingested_at"]
    earlier = pa.schema([QUARANTINE.columns.field(name) for name in names])
    DeltaTable.create(workspace.table_uri(QUARANTINE), schema=earlier)
    path = tmp_path / "a.jsonl"
    lines = [
        r'{"user_id": "\u0061nn", "item_id": 7, "timestamp": 32503680000, "rating": 2}',
        '{"user_id": "ann", "item_id": "j", "timestamp": 5, "rating": NaN}',
        '{"user_id": " bob ", "item_id": "i", "timestamp": 5, "rating": 6.0}',
    ]
    path.write_text("\n".join(lines))
    ingest.run(mapping(path, max_bad_share=1), workspace, now=NOW)
    read = table(workspace, QUARANTINE).sort("line").select("rules", *contracts.READ)
    future = datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)
    assert read.rows() == [
        (["future_time"], "ann", "7", future, "rating", 2.0),
        (["unparsable_json"], None, None, None, "rating", None),
        (
            ["value_out_of_scale"],
            "bob",
            "i",
            datetime.datetime(1970, 1, 1, 0, 0, 5, tzinfo=datetime.UTC),
            "rating",
            6.0,
        ),
    ]


LATER = NOW + datetime.timedelta(days=30)


def test_a_row_of_the_future_is_taken_in_when_its_time_has_come(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    soon = int(NOW.timestamp()) + 10 * 86_400
    rows = f"u,i,1,5\nu,j,{soon},4\nv,j,{soon},3\nv,j,{soon},2\nw,j,{soon},9\nx,j,{2 * soon},1\n"
    first = ingest.run(mapping(log(tmp_path / "a.csv", rows), max_bad_share=1), workspace, now=NOW)
    assert sums(first.counts) == (6, 1, 0, 5)
    other = mapping(log(tmp_path / "b.csv", "y,i,1,1\n"))
    assert ingest.run(other, workspace, now=NOW).outputs.came_due == 0
    again = ingest.run(other, workspace, now=LATER)  # nothing of its own
    assert (again.reused, again.outputs.came_due) == (True, 3)
    assert ingest.run(other, workspace, now=LATER).outputs.came_due == 0
    rules = table(workspace, QUARANTINE).sort("line")["rules"].list.sort().to_list()
    assert rules == [["superseded"], ["future_time", "value_out_of_scale"], ["future_time"]]
    assert values(workspace) == [("u", "i", 5.0), ("u", "j", 4.0), ("v", "j", 2.0), ("y", "i", 1.0)]


def test_what_came_due_is_taken_in_once_though_killed_at_any_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = int(NOW.timestamp()) + 10 * 86_400
    rows = f"u,i,1,5\nu,j,{soon},4\nv,j,{soon},3\nv,j,{soon},2\n"
    source = mapping(log(tmp_path / "a.csv", rows), max_bad_share=1)

    class Killed(BaseException):
        pass

    def stop_before(number: int, workspace: Workspace) -> None:
        left = number
        for owner, name in ((came_due, "replace_quarantine"), (NextVersion, "commit")):
            original = getattr(owner, name)

            def call(*arguments: Any, original: Any = original) -> None:
                nonlocal left
                if not left:
                    raise Killed
                left -= 1
                original(*arguments)

            monkeypatch.setattr(owner, name, call)
        with pytest.raises(Killed):
            ingest.take_in_what_came_due(workspace, now=LATER)
        monkeypatch.undo()

    whole = None
    for number in (None, 0, 1, 2):
        workspace = Workspace(tmp_path / f"ws-{number}")
        ingest.run(source, workspace, now=NOW)
        if number is not None:
            stop_before(number, workspace)
        ingest.take_in_what_came_due(workspace, now=LATER)
        assert ingest.take_in_what_came_due(workspace, now=LATER) == 0
        found = [table(workspace, which) for which in (INTERACTIONS, QUARANTINE)]
        whole = whole or found
        for expected, frame in zip(whole, found, strict=True):
            assert_frame_equal(frame, expected)
    assert whole is not None
    assert whole[0].height == 3
    assert whole[1]["rules"].to_list() == [["superseded"]]


A_FEW_ROWS = Budget(kept_bytes=0, rows_per_part=4, workers=1)


def test_rows_that_come_due_need_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon, much_later = (int(NOW.timestamp()) + days * 86_400 for days in (10, 400))
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(3):
        times = (soon, soon, soon, 1, much_later)
        rows = [f"u{n % 7},i{n % 3},{times[n % 5]},{1 + (n + number) % 5}\n" for n in range(20)]
        log(logs / f"{number}.csv", "".join(rows))
    found = []
    for how in ("at-once", "in-parts"):
        workspace = Workspace(tmp_path / how)
        ingest.run(mapping(logs, max_bad_share=1), workspace, now=NOW)
        if how == "in-parts":
            monkeypatch.setattr(Budget, "of", lambda config: A_FEW_ROWS)
            monkeypatch.setattr(came_due, "LINES_PER_RANGE", 3)
        assert ingest.take_in_what_came_due(workspace, now=LATER) == 36
        found.append([table(workspace, which) for which in (INTERACTIONS, QUARANTINE)])
    for expected, frame in zip(*found, strict=True):
        order = expected.columns
        assert_frame_equal(frame.sort(order), expected.sort(order))
    assert found[0][0].height == 16  # of each user, item and time the last file's
    assert (found[0][1]["rules"].list.first() == "superseded").sum() == 2 * 16


def test_a_refused_logs_rows_of_the_future_stay_in_the_quarantine(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    soon = int(NOW.timestamp()) + 10 * 86_400
    with pytest.raises(UserError, match="max_bad_share"):
        ingest.run(mapping(log(tmp_path / "a.csv", f"u,j,{soon},4\n")), workspace, now=NOW)
    assert ingest.take_in_what_came_due(workspace, now=LATER) == 0
    assert (workspace / "tables").names() == ["quarantine"]


def test_a_commit_that_comes_in_between_is_seen_and_the_change_done_again(tmp_path: Path) -> None:
    """As where a lease was lost, or something else than recmeta writes to the tables."""
    workspace = Workspace(tmp_path / "ws")
    ingest.run(mapping(log(tmp_path / "a.csv", "u,i,1,5\n")), workspace, now=NOW)
    second = Workspace(tmp_path / "ws")
    original, others = NextVersion.commit, ["u,j,2,3\nu,k,3,3\n", "u,j,2,4\n"]

    def race(version: NextVersion, *arguments: Any) -> None:
        if others:
            rows = others.pop()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(NextVersion, "commit", original)
                ingest.run(mapping(log(tmp_path / "other.csv", rows)), second, now=NOW)
        original(version, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NextVersion, "commit", race)
        manifest = ingest.run(
            mapping(log(tmp_path / "b.csv", "u,j,2,3\nu,l,4,1\n")), workspace, now=NOW
        )
    assert not others
    assert sums(manifest.counts) == (2, 1, 1, 0)
    assert values(workspace) == [("u", "i", 5), ("u", "j", 3), ("u", "k", 3), ("u", "l", 1)]


def test_a_workspace_of_an_earlier_version_takes_the_next_log(tmp_path: Path) -> None:
    """Its quarantine has no columns for what could be read."""
    workspace = Workspace(tmp_path / "ws")
    ingest.run(mapping(log(tmp_path / "a.csv", "u,i,1,5\n")), workspace, now=NOW)
    uri = workspace.table_uri(QUARANTINE)
    earlier = ["source", "file", "line", "rules", "raw", "ingested_at"]
    rows = DeltaTable(uri).to_pyarrow_table().select(earlier)
    write_deltalake(uri, rows, mode="overwrite", schema_mode="overwrite")
    ingest.run(mapping(log(tmp_path / "b.csv", "u,j,2,4\n")), workspace, now=NOW)
    assert values(workspace) == [("u", "i", 5.0), ("u", "j", 4.0)]
