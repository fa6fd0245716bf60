"""The table of task building: rows per second, peak memory and bytes of recmeta and of two
peers."""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.build_tasks.synthetic_log import SyntheticLog
from benchmarks.speed.processes import measure_alone
from benchmarks.speed.result import BenchmarkResult, machine
from recmeta.workspace import Workspace

PACKAGE = "benchmarks.speed.build_tasks"
OURS = "recmeta"
MODULES = {OURS: "ours", "duckdb": "in_duckdb", "pandas": "in_pandas"}
MOST_ROWS = {"pandas": 30_000_000}
"""pandas holds the whole log several times, so that larger logs would not fit into most
machines."""
BUDGET_MIB = 2_048
"""The peak memory that recmeta may take for any number of rows up to 100 million."""


def run(
    rows: Sequence[int] = (1_000_000, 10_000_000),
    threads: int = 2,
    seconds: float = 4.0,
    folder: Path | None = None,
) -> BenchmarkResult:
    """Measure all contestants on every size of log.

    Args:
        rows: the numbers of rows of the logs.
        threads: the number of threads that each contestant may use.
        seconds: the approximate duration of each measurement, which is taken at least once.
        folder: the folder for logs and tasks, or None for that of temporary files.

    Raises:
        AssertionError: if a contestant builds other tasks, or recmeta exceeds its budget.
    """
    about = machine("polars", "pyarrow", "deltalake", "numpy", "duckdb", "pandas")
    found: list[dict[str, Any]] = []
    for num_rows in sorted(rows):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            SyntheticLog(num_rows=num_rows).write(Workspace(name))
            found += [_measured(n, num_rows, name, threads, seconds) for n in _able(num_rows)]
    check(found)
    add_slopes(found)
    return BenchmarkResult(
        name="build-tasks",
        title=f"Build tasks from a log of interactions, {threads} threads",
        columns=(
            "name",
            "rows",
            "rows_per_second",
            "cpu_seconds",
            "peak_mib",
            "bytes_per_interaction",
            "slope",
            "cpu_slope",
            "profile",
        ),
        rows=found,
        machine=about,
    )


def check(rows: Sequence[dict[str, Any]]) -> None:
    """Raise AssertionError if tasks differ, since a comparison must be of the same work."""
    ours = {row["rows"]: row["digest"] for row in rows if row["name"] == OURS}
    for row in rows:
        if row["digest"] != ours[row["rows"]]:
            raise AssertionError(f"{row['name']} builds other tasks of {row['rows']:,} rows")
        if row["name"] == OURS and row["peak_mib"] > BUDGET_MIB:
            raise AssertionError(f"recmeta took {row['peak_mib']:,.0f} MiB, over {BUDGET_MIB:,}")


def add_slopes(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each contestant's row of the longest log the slopes of log time on log rows.

    Of processor time, too, which other work on the machine stretches less.
    """
    for name in {row["name"] for row in rows}:
        mine = [row for row in rows if row["name"] == name]
        if len(mine) > 1:
            size = np.log([row["rows"] for row in mine])
            for slope, key in (("slope", "seconds"), ("cpu_slope", "cpu_seconds")):
                time = np.log([row[key] for row in mine])
                mine[-1][slope] = float(np.polyfit(size, time, 1)[0])


def _able(num_rows: int) -> list[str]:
    installed = [n for n in MODULES if n == OURS or importlib.util.find_spec(n)]
    return [n for n in installed if num_rows <= MOST_ROWS.get(n, num_rows)]


def _measured(
    name: str, num_rows: int, workspace: str, threads: int, seconds: float
) -> dict[str, Any]:
    arguments = {
        "module": f"{PACKAGE}.{MODULES[name]}",
        "workspace": workspace,
        "seconds": seconds,
    }
    found = measure_alone(f"{PACKAGE}.measure", arguments, threads=threads)
    total = sum(found["stages"].values())
    profile = [f"{stage} {100 * spent / total:.0f} %" for stage, spent in found["stages"].items()]
    return {
        "name": name,
        "rows": num_rows,
        "threads": threads,
        "rows_per_second": num_rows / found["seconds"],
        "bytes_per_interaction": found["bytes"] / num_rows,
        "profile": ", ".join(profile),
        **found,
    }
