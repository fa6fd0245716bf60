"""The table of ingest: rows per second and peak memory of recmeta and of two peers."""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.ingest.log_file import FORMATS, LogFile
from benchmarks.speed.ingest.measure import FATES
from benchmarks.speed.processes import measure_alone
from benchmarks.speed.result import BenchmarkResult, OnRow, machine, unheard

PACKAGE = "benchmarks.speed.ingest"
OURS = "recmeta"
MODULES = {OURS: "ours", "polars": "in_polars", "duckdb": "in_duckdb"}
BUDGET_MIB = 2_048
"""Peak memory that recmeta may take at any number of rows: the default of `--memory`."""


def run(
    rows: Sequence[int] = (1_000_000, 10_000_000),
    threads: int = 2,
    folder: Path | None = None,
    on_row: OnRow = unheard,
) -> BenchmarkResult:
    """Measure all contestants on every log, as Parquet and as CSV.

    Args:
        rows: the numbers of rows of the logs.
        threads: the number of threads that each contestant may use.
        folder: the folder for logs and tables, or None for that of temporary files.

    Raises:
        AssertionError: if a contestant has other counts, or recmeta exceeds its budget.
    """
    about = machine("polars", "pyarrow", "deltalake", "duckdb")
    found: list[dict[str, Any]] = []
    for num_rows in sorted(rows):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            LogFile(num_rows=num_rows).write(Path(name))
            for format_ in FORMATS:
                for contestant in _able():
                    arguments = {
                        "module": f"{PACKAGE}.{MODULES[contestant]}",
                        "path": f"{name}/log.{format_}",
                    }
                    measured = measure_alone(f"{PACKAGE}.measure", arguments, threads=threads)
                    row = {
                        "name": contestant,
                        "format": format_,
                        "rows": num_rows,
                        "threads": threads,
                        "rows_per_second": num_rows / measured["seconds"],
                        "rows_per_cpu_second": num_rows / measured["cpu_seconds"],
                        **measured,
                    }
                    on_row(row)
                    found.append(row)
    check(found)
    return BenchmarkResult(
        name="ingest",
        title=f"Check a log and make it a table, {threads} threads",
        columns=(
            "name",
            "format",
            "rows",
            "rows_per_second",
            "rows_per_cpu_second",
            "cpu_seconds",
            "peak_mib",
        ),
        rows=found,
        machine=about,
    )


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Raise AssertionError if counts differ, since a comparison must be of the same work."""
    ours = {(r["rows"], r["format"]): r for r in rows if r["name"] == OURS}
    for row in rows:
        known = ours[row["rows"], row["format"]]
        different = [f"{fate} {row[fate]:,}" for fate in FATES if row[fate] != known[fate]]
        if different:
            raise AssertionError(
                f"{row['name']} counts {', '.join(different)} of {row['rows']:,} rows"
            )
        if row["name"] == OURS and row["peak_mib"] > BUDGET_MIB:
            raise AssertionError(f"recmeta took {row['peak_mib']:,.0f} MiB, over {BUDGET_MIB:,}")


def _able() -> list[str]:
    return [n for n in MODULES if n == OURS or importlib.util.find_spec(n)]
