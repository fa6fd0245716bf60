"""Bounded memory: parts on the disk give the tables, counts and quarantine of one piece."""

import datetime
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from recmeta.errors import UserError
from recmeta.logs import tables
from recmeta.logs.checking.conflicts import KEY
from recmeta.logs.mapping import LogMapping
from recmeta.logs.settling.budget import Budget, IngestConfig
from recmeta.logs.settling.parts import Parts
from recmeta.logs.settling.quarantine import QuarantinedRows
from recmeta.logs.settling.stored import StoredFile
from recmeta.schema import INTERACTIONS, QUARANTINE
from recmeta.steps.data import ingest
from recmeta.workspace import Workspace

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SPLIT = Budget(kept_bytes=0, rows_per_part=3, workers=2)
"""Everything goes to the disk, and few rows are settled at a time."""
SLOW = bool(os.environ.get("RECMETA_SLOW"))

USERS = ["ann", "bob", "wé", *(f"u{n}" for n in range(9))]
ROW = st.tuples(
    st.sampled_from(USERS),
    st.sampled_from("ijk"),
    st.sampled_from(["", "0", "1", "3600", "7200"]),
    st.sampled_from(["click", "rating"]),
    st.integers(1, 3),
)
BAD_ROW = st.sampled_from(["u,i", ",i,1,rating,1", "u,i,noon,click,1", "u,i,1,click,9", "u,i,1,,1"])
FILES = st.lists(st.lists(st.one_of(ROW, ROW, ROW, BAD_ROW), max_size=12), min_size=1, max_size=3)
HEADER = "user_id,item_id,timestamp,event,value\n"


def spelled(row: Any) -> str:
    return row if isinstance(row, str) else ",".join(map(str, row))


def written(folder: Path, files: list[list[Any]]) -> Path:
    folder.mkdir()
    for number, rows in enumerate(files):
        text = HEADER + "".join(spelled(row) + "\n" for row in rows)
        (folder / f"part-{number}.csv").write_text(text, encoding="utf-8")
    return folder


def mapping(path: Path, **fields: Any) -> LogMapping:
    known = {"time_col": "timestamp", "event_col": "event", "value_col": "value", "scale": "1:5"}
    defaults = {"earliest_time": "1970-01-01", "max_bad_share": 1.0}
    return LogMapping(path=str(path), **known | defaults | fields)


def table(workspace: Workspace, name: str) -> pl.DataFrame:
    frame = pl.read_delta(f"{workspace.location}/tables/{name}").drop("ingested_at")
    return frame.with_columns(pl.col(pl.List(pl.String)).list.join(",")).sort(pl.all())


def outcome(workspace: Workspace, sources: list[LogMapping]) -> list[Any]:
    """What ingests say, and what they leave."""
    said = []
    for source in sources:
        tried = ingest.dry_run(source, now=NOW)
        done = ingest.run(source, workspace, now=NOW)
        said += [tried, done.counts, done.outputs.findings, done.outputs.notes]
    return said


@settings(
    max_examples=40 if SLOW else 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example is eight ingests
)
@given(FILES, FILES, st.booleans())
def test_many_parts_give_what_one_gives(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[list[Any]],
    second: list[list[Any]],
    has_times: bool,
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    options = {} if has_times else {"time_col": None}
    sources = [
        mapping(written(folder / name, files), **options)
        for name, files in (("first", first), ("second", second))
    ]
    whole, split = Workspace(folder / "whole"), Workspace(folder / "split")
    said = outcome(whole, sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Budget, "of", classmethod(lambda cls, config: SPLIT))
        assert outcome(split, sources) == said
    for name in (INTERACTIONS.name, QUARANTINE.name):
        assert_frame_equal(table(split, name), table(whole, name))


def test_typed_rows_are_quarantined_with_the_text_of_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"u{n % 10}" for n in range(400)]
    rows = pl.DataFrame(
        {
            "user_id": ids,
            "item_id": [n % 2 for n in range(400)],
            "timestamp": [n // 40 for n in range(400)],
            "value": [float(n % 4) for n in range(400)],
            "tags": [["a", None]] * 400,
        }
    )
    (tmp_path / "log").mkdir()
    for number, part in enumerate(rows.iter_slices(100)):
        # The same ids as another type.
        typed = part.with_columns(pl.col("item_id").cast([pl.Int64, pl.String][number % 2]))
        typed.write_parquet(tmp_path / "log" / f"{number}.parquet")
    source = mapping(tmp_path / "log", event_col=None)
    whole, split = Workspace(tmp_path / "whole"), Workspace(tmp_path / "split")
    counts = ingest.run(source, whole, now=NOW).counts
    monkeypatch.setattr(Budget, "of", classmethod(lambda cls, config: SPLIT))
    assert ingest.run(source, split, now=NOW).counts == counts
    assert counts["duplicates"] + counts["accepted"] + counts["quarantined"] == 400
    assert counts["quarantined"] > 100
    quarantine = table(whole, QUARANTINE.name)
    assert set(quarantine["rules"]) == {"superseded", "value_out_of_scale"}
    assert '"item_id":"' in "".join(quarantine["raw"])
    assert_frame_equal(table(split, QUARANTINE.name), quarantine)
    assert_frame_equal(table(split, INTERACTIONS.name), table(whole, INTERACTIONS.name))


def test_a_user_with_most_rows_is_settled_in_shares(tmp_path: Path) -> None:
    parts = Parts(str(tmp_path), Budget(kept_bytes=0, rows_per_part=100, workers=1))
    for block in range(3):
        size = 400
        parts.add(
            pl.DataFrame(
                {
                    "user_id": ["guest"] * (size - 1) + ["ann"],
                    "item_id": [f"i{n}" for n in range(size)],
                    "timestamp": pl.Series([None] * size, dtype=pl.Datetime("us", "UTC")),
                    "event": ["click"] * size,
                    "value": [float(block)] * size,
                    "file": ["log"] * size,
                    "line": range(size),
                    "raw": [f"row {n} of {block}" for n in range(size)],
                }
            )
        )
    found = [part.rows() for part in parts]
    assert max(rows.height for rows in found) < 200
    everything = pl.concat(found)
    assert everything.height == 1200
    # No key is in two parts, and within one the last block comes last.
    assert sum(rows.select(KEY).n_unique() for rows in found) == everything.select(KEY).n_unique()
    for part in parts:
        last = part.rows().group_by("item_id", maintain_order=True).last()
        texts = part.with_texts(last.sort("place"))
        expected = texts.select(pl.format("row {} of 2", pl.col("item_id").str.slice(1)))
        assert texts["raw"].to_list() == expected.to_series().to_list()


def test_only_files_of_the_time_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "ws")
    day = 86_400
    for number in range(3):
        rows = [[("ann", "i", str(number * day + n), "click", 1) for n in range(5)]]
        ingest.run(mapping(written(tmp_path / f"day-{number}", rows)), workspace, now=NOW)
    before = {a["path"]: a for a in actions(workspace)}
    assert len(before) == 3
    opened: list[str] = []
    original = pl.scan_parquet
    monkeypatch.setattr(
        pl, "scan_parquet", lambda uri, **options: opened.append(uri) or original(uri, **options)
    )
    late = [[("ann", "i", str(day), "click", 2), ("bob", "i", str(day + 7), "click", 1)]]
    counts = ingest.run(mapping(written(tmp_path / "late", late)), workspace, now=NOW).counts
    assert (counts["accepted"], counts["duplicates"]) == (2, 0)
    second = sorted(before.values(), key=lambda a: a["min.timestamp"])[1]["path"]
    assert [uri.rsplit("/", 1)[1] for uri in opened if second in uri] == [second]
    assert not [uri for uri in opened for path in before if path in uri and path != second]
    # The row that was replaced left its file; the others' files are as they were.
    assert before.keys() - {a["path"] for a in actions(workspace)} == {second}
    values = pl.read_delta(workspace.table_uri(INTERACTIONS)).sort("timestamp", "user_id")
    assert values["value"].to_list() == [1] * 5 + [2] + [1] * 10


def actions(workspace: Workspace) -> list[dict[str, Any]]:
    delta = DeltaTable(workspace.table_uri(INTERACTIONS))
    return pa.table(delta.get_add_actions(flatten=True)).to_pylist()


def test_statistics_are_those_of_the_rows(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    long = "x" * 40
    rows = [[("ann", "i", "1", "click", 2), (long, "j", "3600", "click", 1)]]
    done = ingest.run(mapping(written(tmp_path / "log", rows)), workspace, now=NOW)
    (action,) = actions(workspace)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    times = [epoch + datetime.timedelta(seconds=1), epoch + datetime.timedelta(hours=1)]
    expected = {
        "user_id": ["ann", long[:32] + "\U0010ffff"],
        "item_id": ["i", "j"],
        "timestamp": times,
        "event": ["click", "click"],
        "value": [1.0, 2.0],
        "source": [done.outputs.source] * 2,
        "ingested_at": [NOW, NOW],
    }
    assert action["num_records"] == 2
    for name, ends in expected.items():
        assert [action[f"{end}.{name}"] for end in ("min", "max")] == ends
        assert action[f"null_count.{name}"] == 0
    stored = pq.read_schema(f"{workspace.local_path(INTERACTIONS.path)}/{action['path']}")
    assert stored.names == INTERACTIONS.columns.names
    assert {str(stored.field(name).type) for name in ("user_id", "event", "source")} == {"string"}


@pytest.mark.parametrize("has_times", [True, False])
def test_every_reader_finds_the_rows_by_every_column(tmp_path: Path, has_times: bool) -> None:
    workspace = Workspace(tmp_path / "ws")
    options = {} if has_times else {"time_col": None}
    first = [[("ann", "i", "1", "click", 2), ("\U0001f600" * 40, "j", "3600", "view", 1)]]
    second = [[("ann", "i", "1", "click", 3), ("bob", "k", "7200", "view", 1)]]
    for name, files in (("first", first), ("second", second)):
        ingest.run(mapping(written(tmp_path / name, files), **options), workspace, now=NOW)
    delta = DeltaTable(workspace.table_uri(INTERACTIONS))
    rows = pl.read_delta(delta)
    assert rows.height == 3
    datasets = [delta.to_pyarrow_dataset(), tables.as_dataset(workspace, INTERACTIONS, delta)]
    for name, kind in zip(INTERACTIONS.columns.names, INTERACTIONS.columns.types, strict=True):
        for value in rows[name].unique():
            mine, theirs = pl.col(name).is_null(), pc.field(name).is_null()
            if value is not None:
                mine, theirs = pl.col(name) == value, pc.field(name) == pa.scalar(value, kind)
            number = rows.filter(mine).height
            assert [found.count_rows(filter=theirs) for found in datasets] == [number] * 2, name
            assert pl.scan_delta(delta).filter(mine).collect().height == number, name


HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("fields", "hours", "has_null_times", "expected"),
    [
        ({"first": 0, "last": HOUR}, [1], False, True),
        ({"first": 0, "last": HOUR - 2_000}, [1], False, False),
        ({"first": 0, "last": HOUR - 1}, [1], False, True),  # statistics are cut to milliseconds
        ({"first": 3 * HOUR, "last": 5 * HOUR}, [1, 9], False, False),
        ({"first": None, "last": None}, [1], False, False),
        ({"first": None, "last": None}, [], True, True),
        ({"first": 0, "last": 1, "may_have_nulls": False}, [], True, False),
        ({"has_statistics": False}, [], False, True),
    ],
)
def test_which_files_may_hold_rows(
    fields: dict[str, Any], hours: list[int], has_null_times: bool, expected: bool
) -> None:
    file = StoredFile(**{"action": "a", "size": 1, "has_statistics": True} | fields)
    assert file.may_hold(np.array(hours, dtype=np.int64), has_null_times) is expected


def test_quarantined_rows_are_the_same_on_the_disk(tmp_path: Path) -> None:
    block = pl.DataFrame(
        {"file": ["b", "a"], "line": [1, 2], "rules": [["x"], ["y", "z"]], "raw": ["1", "2"]}
    ).with_columns(
        *(pl.lit(None, pl.String).alias(name) for name in ("user_id", "item_id", "event")),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("timestamp"),
        pl.lit(None, pl.Float64).alias("value"),
    )
    kept = QuarantinedRows(str(tmp_path), "kept", 2**20)
    spilled = QuarantinedRows(str(tmp_path), "spilled", 0)
    for rows in (kept, spilled):
        for _ in range(3):
            rows.add(block)
        assert rows.num_rows == 6
    assert len(list(tmp_path.iterdir())) == 3
    for _ in range(2):  # they can be gone through again
        assert_frame_equal(pl.concat(spilled), pl.concat(kept), check_row_order=False)


def test_how_memory_is_spelled() -> None:
    assert IngestConfig(memory="1.5 GiB").num_bytes == 3 * 2**29
    assert IngestConfig(memory="900MB").num_bytes == 900_000_000
    with pytest.raises(UserError, match="must be a number with a unit"):
        IngestConfig(memory=f"{'9' * 400}GiB")  # more than a float holds
    for wrong in ("2 gigs", "", "-1GiB"):
        with pytest.raises(UserError, match="a number with a unit, such as 1GiB"):
            IngestConfig(memory=wrong)
    with pytest.raises(UserError, match="at least 768MiB"):
        IngestConfig(memory="100MiB")
    small, large = (Budget.of(IngestConfig(memory=m)) for m in ("1GiB", "4GiB"))
    assert small.rows_per_part < large.rows_per_part


def peak_above(work: Any) -> float:
    """How much memory this process takes at most while it works, in MiB above what it had."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def watch() -> Iterator[None]:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, process.memory_info().rss)
            yield

    thread = threading.Thread(target=lambda: list(watch()))
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return (most - before) / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="RECMETA_SLOW=1 runs it")
def test_memory_is_bounded_by_the_budget_and_not_by_the_rows(tmp_path: Path) -> None:
    numbers, count = np.random.default_rng(0), 6_000_000
    pl.DataFrame(
        {
            "user_id": numbers.integers(0, 150_000, count),
            "item_id": numbers.integers(0, 20_000, count),
            "timestamp": np.sort(numbers.integers(1_600_000_000, 1_700_000_000, count)),
            "value": numbers.integers(1, 6, count),
        }
    ).write_parquet(tmp_path / "log.parquet")
    source = mapping(tmp_path / "log.parquet", event_col=None)
    workspace, config = Workspace(tmp_path / "ws"), IngestConfig(memory="1GiB")
    assert peak_above(lambda: ingest.run(source, workspace, config=config, now=NOW)) < 1024 - 128
    assert len(actions(workspace)) > 1
    assert table(workspace, INTERACTIONS.name).height == count
