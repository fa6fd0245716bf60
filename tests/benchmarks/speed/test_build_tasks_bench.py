"""The contestants of the benchmark build the same tasks, and a difference is not passed over."""

import math
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest

from benchmarks.speed.build_tasks import in_pandas, ours
from benchmarks.speed.build_tasks.built import digest, read_splits, write_split
from benchmarks.speed.build_tasks.run import BUDGET_MIB, add_slopes, check
from benchmarks.speed.build_tasks.synthetic_log import ROWS_PER_USER, SyntheticLog
from benchmarks.speed.processes import measure_alone
from recmeta import schema
from recmeta.workspace import Workspace

NUM_ROWS = 30_000
PARENT_MIB = 700


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = Workspace(tmp_path_factory.mktemp("log"))
    SyntheticLog(num_rows=NUM_ROWS, seed=1).write(found)
    return found


@pytest.fixture(scope="module")
def built(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    stages = ours.build(workspace, folder)
    assert set(stages) >= {"numbering", "reading", "placing", "statistics", "writing"}
    assert all(seconds >= 0 for seconds in stages.values())
    return folder


def test_pandas_builds_the_same(workspace: Workspace, built: Path, tmp_path: Path) -> None:
    in_pandas.build(workspace, tmp_path)
    assert digest(tmp_path) == digest(built)


def test_duckdb_builds_the_same(
    workspace: Workspace, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb", reason="duckdb is an optional peer")
    from benchmarks.speed.build_tasks import in_duckdb

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    in_duckdb.build(workspace, tmp_path)
    assert digest(tmp_path) == digest(built)


def test_one_other_row_is_another_digest(built: Path, tmp_path: Path) -> None:
    train, dev, test = read_splits(built)
    values = dev[schema.QUERY_VALUE].combine_chunks()
    changed = values.flatten().to_numpy().copy()
    changed[-1] += 1
    other = pa.ListArray.from_arrays(values.offsets, pa.array(changed))
    at = dev.schema.get_field_index(schema.QUERY_VALUE)
    write_split(tmp_path, "train", train)
    write_split(tmp_path, "test", test)
    write_split(tmp_path, "dev", dev)
    assert digest(tmp_path) == digest(built)
    write_split(tmp_path, "dev", dev.set_column(at, schema.QUERY_VALUE, other))
    assert digest(tmp_path) != digest(built)
    assert ipc.open_file(str(tmp_path / "dev.arrow")).read_all().num_rows == dev.num_rows


def test_the_log_is_the_seeds_and_has_a_long_tail(workspace: Workspace, tmp_path: Path) -> None:
    table = pl.read_delta(workspace.table_uri(schema.INTERACTIONS))
    SyntheticLog(num_rows=NUM_ROWS, seed=1).write(Workspace(tmp_path))
    assert pl.read_delta(Workspace(tmp_path).table_uri(schema.INTERACTIONS)).equals(table)
    assert table.n_unique(schema.INTERACTIONS.key) == len(table) <= NUM_ROWS
    activity = table[schema.USER_ID].value_counts()["count"]
    assert abs(activity.mean() - ROWS_PER_USER) < 5
    assert activity.median() < activity.mean() / 2
    assert activity.max() > 10 * activity.mean()


def test_memory_is_what_the_measured_process_holds(workspace: Workspace) -> None:
    held = bytearray(PARENT_MIB << 20)  # Linux counts it among the child's `ru_maxrss`
    asked = {"module": ours.__name__, "workspace": workspace.path, "seconds": 0.0}
    found = measure_alone("benchmarks.speed.build_tasks.measure", asked, threads=1)
    assert 0 < found["idle_mib"] <= found["peak_mib"] < PARENT_MIB <= len(held) / 2**20


def row(name: str, rows: int, seconds: float, **other: object) -> dict[str, object]:
    found = {"name": name, "rows": rows, "seconds": seconds, "cpu_seconds": 2 * seconds}
    return {**found, "digest": "a", "peak_mib": 1, **other}


def test_differences_and_a_left_budget_are_refused() -> None:
    check([row("recmeta", 10, 1.0), row("pandas", 10, 2.0)])
    with pytest.raises(AssertionError, match="pandas builds other tasks of 10 rows"):
        check([row("recmeta", 10, 1.0), row("pandas", 10, 2.0, digest="b")])
    with pytest.raises(AssertionError, match="recmeta took"):
        check([row("recmeta", 10, 1.0, peak_mib=BUDGET_MIB + 1)])
    check([row("recmeta", 10, 1.0), row("pandas", 10, 1.0, peak_mib=BUDGET_MIB + 1)])


def test_slopes_are_of_logarithms() -> None:
    rows = [row("a", 10**n, 3 * 10**n) for n in (3, 4, 5)] + [row("b", 10, 1.0), row("c", 10, 1.0)]
    rows.append(row("b", 1000, 10.0))
    add_slopes(rows)
    assert math.isclose(rows[2]["slope"], 1)
    assert math.isclose(rows[2]["cpu_slope"], 1)
    assert math.isclose(rows[5]["slope"], 0.5)
    assert [r.get("slope") for r in rows].count(None) == 4
