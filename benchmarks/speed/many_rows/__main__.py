"""What each step from files to lists takes of a log of many rows.

    python -m benchmarks.speed.many_rows --rows 20000000 --users 500000 --place big
    python -m benchmarks.speed.many_rows --place big --steps score --workers 2

Every step is the command that a user would run, in a process of its own. A line of JSON says of
each how long it took by the clock, the processors' time of all its processes, and the most memory
that one of them held: `peak_mib` as the operating system counts it, pages of mapped files included,
and `own_mib` without these, which the system takes back when it needs them. A log that is there
already is not written again.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.speed.many_rows.log import LogSize, write

COLUMNS = ("--time-col", "timestamp", "--value-col", "rating")
EVERY = 0.2
"""Seconds between two looks at the memory of a step's processes."""
STEPS = ("ingest", "build-tasks", "meta-train", "evaluate", "register", "score")


def main() -> None:
    """Write a log, and run the steps on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--place", type=Path, required=True, help="a folder for everything")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--new-users", type=int, default=20_000)
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=STEPS)
    parser.add_argument("--workers", type=int, default=1, help="processes of a step that takes any")
    parser.add_argument("--config", help="a configuration for the steps that take one")
    asked = parser.parse_args()
    if not (asked.place / "new.parquet").exists():
        write(
            LogSize(
                num_rows=asked.rows,
                num_users=asked.users,
                num_items=asked.items,
                new_users=asked.new_users,
            ),
            asked.place,
        )
    for step in asked.steps:
        print(json.dumps(_measured(step, asked)), flush=True)  # noqa: T201


def _command(step: str, asked: argparse.Namespace) -> list[str]:
    """Return the arguments of the command that does a step."""
    workers = ["--workers", str(asked.workers)] if asked.workers > 1 else []
    config = ["--config", asked.config] if asked.config else []
    new = [f"{asked.place}/new.parquet", *COLUMNS]
    return {
        "ingest": ["ingest", f"{asked.place}/log/", *COLUMNS],
        "build-tasks": ["build-tasks", *config],
        "meta-train": ["meta-train", *config]
        + (["--processes", str(asked.workers)] if asked.workers > 1 else []),
        "evaluate": ["evaluate", *workers, *config],
        "register": ["register", "--force"],
        "score": ["score", *new, *workers, *config],
    }[step]


def _measured(step: str, asked: argparse.Namespace) -> dict[str, object]:
    """Run a step, and return what it took."""
    place = asked.place / "workspace"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "recmeta.cli", *_command(step, asked), "-w", str(place), "--json"],
        stdout=subprocess.DEVNULL,
    )
    own: list[int] = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, own), daemon=True)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "step": step,
        "rows": asked.rows,
        "workers": asked.workers,
        "exit": process.returncode,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": usage.ru_maxrss // 1024,
        "own_mib": own[0] // 1024,
    }


def _watch(pid: int, own: list[int]) -> None:
    """Keep the most memory in KiB that a process or one below it holds, without mapped files."""
    while Path(f"/proc/{pid}").exists():
        for each in _below(pid):
            try:
                lines = Path(f"/proc/{each}/status").read_text(encoding="utf-8").splitlines()
            except OSError:  # it has just ended
                continue
            held = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
            own[0] = max(own[0], *held, 0)
        time.sleep(EVERY)


def _below(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for each in found:
        for tasks in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in tasks.read_text(encoding="utf-8").split()]
            except OSError:
                continue
    return found


if __name__ == "__main__":
    main()
