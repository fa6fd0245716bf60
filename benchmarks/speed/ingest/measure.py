"""One contestant on one log, in a process of its own."""

import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.build_tasks.measure import peak_mib
from benchmarks.speed.ingest.log_file import LogFile

WARM_UP_ROWS = 2_000
FATES = ("rows_read", "accepted", "duplicates", "quarantined")


def measure(module: str, path: str) -> dict[str, Any]:
    """Return what ingesting a log takes, and what became of its rows.

    Args:
        module: its `build(path, folder)` writes tables into a folder and returns the counts.

    Returns:
        `seconds`, `cpu_seconds`, `peak_mib` (the most memory that the process held, with its
        libraries), `idle_mib` (what it held before) and the counts.
    """
    build = importlib.import_module(module).build
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("small", "small-tables", "tables"):
            (folder / part).mkdir()
        LogFile(num_rows=WARM_UP_ROWS).write(folder / "small")  # imports do not count
        build(folder / "small" / Path(path).name, folder / "small-tables")
        idle = peak_mib()
        cpu, began = time.process_time(), time.perf_counter()
        counts = build(Path(path), folder / "tables")
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mib": peak_mib(),
        "idle_mib": idle,
        **{fate: counts[fate] for fate in FATES},
    }
