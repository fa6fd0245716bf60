"""The contestants of the benchmark count the same rows, and a difference is not passed over."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.ingest import in_polars, ours
from benchmarks.speed.ingest.log_file import FORMATS, LogFile
from benchmarks.speed.ingest.measure import FATES
from benchmarks.speed.ingest.run import BUDGET_MIB, check

NUM_ROWS = 20_000


def emptied(folder: Path) -> Path:
    folder.mkdir()
    return folder


def fates(counts: dict[str, int]) -> dict[str, int]:
    return {fate: counts[fate] for fate in FATES}


def test_everybody_counts_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LogFile(num_rows=NUM_ROWS, seed=1).write(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for format_ in FORMATS:
        path = tmp_path / f"log.{format_}"
        counts = fates(ours.build(path, emptied(tmp_path / f"ours-{format_}")))
        assert counts["rows_read"] == NUM_ROWS
        assert counts["accepted"] > 0.98 * NUM_ROWS
        assert 50 < counts["duplicates"] < 150
        assert 20 < counts["quarantined"] < 100
        assert in_polars.build(path, emptied(tmp_path / f"polars-{format_}")) == counts
        pytest.importorskip("duckdb", reason="duckdb is an optional peer")
        from benchmarks.speed.ingest import in_duckdb

        assert in_duckdb.build(path, emptied(tmp_path / f"duckdb-{format_}")) == counts


def test_another_count_or_too_much_memory_is_an_error() -> None:
    row: dict[str, Any] = dict.fromkeys(FATES, 5) | {
        "name": "recmeta", "format": "csv", "rows": 5, "peak_mib": 100.0,
    }  # fmt: skip
    check([row, row | {"name": "polars", "peak_mib": 1e6}])
    with pytest.raises(AssertionError, match="polars counts accepted 4 of 5 rows"):
        check([row, row | {"name": "polars", "accepted": 4}])
    with pytest.raises(AssertionError, match="over 2,048"):
        check([row | {"peak_mib": BUDGET_MIB + 1.0}])
