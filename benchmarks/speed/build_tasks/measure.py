"""One contestant on one log, in a process of its own."""

import importlib
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.build_tasks.built import bytes_on_disk, digest
from benchmarks.speed.build_tasks.synthetic_log import SyntheticLog
from recmeta.workspace import Workspace

WARM_UP_ROWS = 2_000


def measure(module: str, workspace: str, seconds: float) -> dict[str, Any]:
    """Return the cost of building the tasks of a workspace, and the digest of the result.

    Args:
        module: its `build(workspace, folder)` writes task files and returns seconds by stage.
        seconds: it is done again until this much time is spent; the fastest counts.

    Returns:
        `seconds`, `cpu_seconds` and `stages` of the fastest, `peak_mib`: the most memory that the
        process held up to the end of the first, with what it holds for its libraries, and
        `idle_mib`: what it held before; `digest` and `bytes` of the tasks.
    """
    build = importlib.import_module(module).build
    best: dict[str, Any] = {"seconds": float("inf")}
    spent, idle, peak = 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        small = Workspace(scratch / "small")
        SyntheticLog(num_rows=WARM_UP_ROWS).write(small)  # exclude the first call's imports
        build(small, _empty(scratch / "tasks"))
        idle = peak_mib()
        while not spent or spent < seconds:
            _forget_tasks(workspace)
            folder = _empty(scratch / "tasks")
            cpu, began = time.process_time(), time.perf_counter()
            stages = build(Workspace(workspace), folder)
            taken, cpu_taken = time.perf_counter() - began, time.process_time() - cpu
            peak = peak or peak_mib()
            spent += taken
            if taken < best["seconds"]:
                best = {"seconds": taken, "cpu_seconds": cpu_taken, "stages": stages}
        found = {"digest": digest(folder), "bytes": bytes_on_disk(folder)}
    return {**best, "peak_mib": peak, "idle_mib": idle, **found}


def _empty(folder: Path) -> Path:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _forget_tasks(workspace: str) -> None:
    """Delete the manifests by which a step would know that it is done."""
    for name in ("tasks", "manifests"):
        shutil.rmtree(Path(workspace) / name, ignore_errors=True)


def peak_mib() -> float:
    """Return the most memory that this process has held.

    On Linux, `ru_maxrss` begins with the parent's memory at the start of the process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) / 2**10
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(used) / (2**20 if sys.platform == "darwin" else 2**10)
