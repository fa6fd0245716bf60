"""Commands that write to one workspace at the same time, each in a process of its own, and what
they leave."""

import contextlib
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["contest_imports"])
WAIT = ["--wait", "600", "--json"]
COLUMNS = ["--user-col", "uid", "--item-col", "sku", "--time-col", "ts", "--value-col", "stars"]
LOG = [*COLUMNS, "--scale", "1:5"]
FORGOTTEN = "u3"
CONFIG = """
[train.training]
epochs = 1
[evaluate]
baselines = ["item-mean"]
[evaluate.evaluation]
num_resamples = 50
"""


def write_logs(folder: Path) -> None:
    """Write three logs that overlap, `0.csv` to `2.csv`, with items of their own, and new users."""
    drawn = np.random.default_rng(0)
    rows: dict[tuple[int, int], str] = {}
    for user in range(50):
        for item in drawn.permutation(24)[: drawn.integers(6, 16)].tolist():
            stars = 1 + (user * item + item) % 5
            rows[user, item] = f"u{user},i{item},{1_700_000_000 + 977 * user + 31 * item},{stars}"
    everything = list(rows.values())
    others = [f"n{u},i{u % 24},{1_700_100_000 + u},{1 + u % 5}" for u in range(90)]
    parts = {
        "0": everything,
        "1": [*everything[::3], *others],
        "2": [*everything[::2], *others[:60]],
    }
    for name, lines in parts.items():
        (folder / f"{name}.csv").write_text("\n".join(["uid,sku,ts,stars", *lines]) + "\n")
        items = [f"i{i},{name} {i}" for i in range(24)] + [f"only-{name},It"]
        (folder / f"items-{name}.csv").write_text("\n".join([f"sku,name{name}", *items]) + "\n")
    new = [f"x{u},i{i},{1_700_200_000 + i},{1 + (u + i) % 5}" for u in range(5) for i in range(3)]
    (folder / "new.csv").write_text("\n".join(["uid,sku,ts,stars", *new]) + "\n")
    (folder / "fast.toml").write_text(CONFIG)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the arguments of each command by name; `maintenance` has none."""
    run = ["--learner", "bayesian-linear", "--no-rival", "--force", "--device", "cpu"]
    return {
        "ingest": ["ingest", f"{folder}/1.csv", *LOG, "--items", f"{folder}/items-1.csv"],
        "ingest another": ["ingest", f"{folder}/2.csv", *LOG, "--items", f"{folder}/items-2.csv"],
        "build-tasks": ["build-tasks"],
        "run": [
            *("run", "--dataset", f"{folder}/1.csv", *LOG, "--items", f"{folder}/items-1.csv"),
            *("--config", f"{folder}/fast.toml", *run),
        ],
        "score": ["score", f"{folder}/new.csv", *COLUMNS, "--device", "cpu"],
        "forget": ["forget", FORGOTTEN],
        "rollback": ["rollback"],
        "maintenance": [],
    }


def prepare(folder: Path, location: str, *, with_models: bool) -> None:
    """Make a workspace with a log, and with two versions of the model, the second one champion."""
    if not with_models:
        first = [a.replace("1.csv", "0.csv") for a in commands(folder)["ingest"]]
        perform(first, location, None, 0.0)
        return
    run = commands(folder)["run"]
    run = [a.replace("/1.csv", "/0.csv").replace("items-1", "items-0") for a in run]
    for seed in ("0", "1"):
        perform([*run, "--seed", seed], location, None, 0.0)


def perform(arguments: Sequence[str], location: str, barrier: Any, pause: float) -> None:
    """Do a command in this process, once all who compete are there. Raises where it fails."""
    from cli_calls import call

    from recmeta.steps.upkeep import maintenance
    from recmeta.workspace import Workspace

    os.environ["RECMETA_WORKSPACE"] = location
    if barrier is not None:
        barrier.wait()
        time.sleep(pause)
    if not arguments:
        workspace = Workspace(location, wait=600)
        maintenance.expire(workspace)
        maintenance.optimise(workspace, min_files=2)
        maintenance.vacuum(workspace)
        return
    called = call(*arguments, *WAIT)
    assert called.code == 0, f"{arguments[0]}: exit {called.code}\n{called.stdout}{called.stderr}"


def at_once(
    several: Sequence[Sequence[str]], location: str, seed: int | None, errors: Path
) -> list[str]:
    """Do commands at the same time, or one after the other where `seed` is None.

    Returns:
        What went wrong.
    """
    barrier = None if seed is None else CONTEXT.Barrier(len(several))
    drawn = random.Random(seed)
    processes = []
    for number, arguments in enumerate(several):
        pause = 0.0 if seed is None else drawn.choice((0.0, drawn.uniform(0, 1.0)))
        process = CONTEXT.Process(
            target=_reported, args=(errors / str(number), arguments, location, barrier, pause)
        )
        process.start()
        processes.append(process)
        if seed is None:
            process.join()
    failed = []
    for number, process in enumerate(processes):
        process.join(600)
        if process.is_alive():
            process.kill()
        if process.exitcode:
            report = errors / str(number)
            failed.append(report.read_text() if report.exists() else f"{process.exitcode}")
    return failed


def _reported(report: Path, *arguments: Any) -> None:
    report.unlink(missing_ok=True)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            perform(*arguments)
        except BaseException as error:
            report.write_text(f"{type(error).__name__}: {error}")
            os._exit(1)


def state(location: str) -> dict[str, Any]:
    """Return what a workspace holds, without clocks: rows of every table, and aliases."""
    import polars as pl
    from deltalake import DeltaTable

    from recmeta.registry.models import versions
    from recmeta.schema import INGESTED_AT, SCORED_AT, TABLES
    from recmeta.workspace import Workspace

    workspace = Workspace(location)
    found: dict[str, Any] = {}
    for table in TABLES:
        uri = workspace.table_uri(table)
        if DeltaTable.is_deltatable(uri):
            frame = pl.read_delta(uri).drop(INGESTED_AT, SCORED_AT, strict=False)
            frame = frame.select(sorted(frame.columns))
            found[table.name] = sorted(map(str, frame.rows()))
    found["aliases"] = {v.version: v.aliases for v in versions.versions(workspace)}
    return found


def differences(found: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Return in which parts a state differs from each of others; empty where it is one of them."""
    told = []
    for other in others:
        parts = [n for n in {*found, *other} if found.get(n) != other.get(n)]
        if not parts:
            return ""
        told.append(", ".join(sorted(parts)))
    return " and from the other order in ".join(told)


Copy = Callable[[str], str]


def copy_of_local(base: Path, to: Path) -> str:
    """Return a copy of a workspace on a local disk."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(base, to, ignore=shutil.ignore_patterns(".tmp", ".locks"))
    return str(to)
