"""Runs of all steps on synthetic logs of a few sizes, each step in a process of its own.

Ingest and task building take seconds for a million rows, and on less it is their fixed part that is
measured: they get logs of millions of rows. Learning gets small ones, with something to learn. Its
memory is that of a short training on the large logs, since it does not depend on the epochs.

A new process for each, since the most memory that a process has held is of all it ever did.
"""

import dataclasses
import datetime
import math
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.capacity import kept
from recmeta.capacity.slopes import OF_DATA, STEPS, Run, Size, Slopes, Step, fit_all
from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping
from recmeta.manifest import latest
from recmeta.progress import Progress, silent
from recmeta.recipes import default
from recmeta.recipes.configuration import pipeline_config
from recmeta.records.provenance import library_versions
from recmeta.registry.models import versions
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.learning import evaluate, meta_train, register
from recmeta.steps.serving import adapt, score
from recmeta.testing.synthetic import DURATION, START, SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace

SIZES = ((500, 300), (1_500, 600), (3_000, 1_000))
"""Users and items of the logs that models learn from."""
NUM_ROWS = (1_000_000, 3_000_000)
"""Of the logs for ingest and task building."""
ROWS_PER_USER = (20, 60)
NEW_USERS = 5
"""New users who get a list, for each user of the log: lists are quick."""
LOG, NEW = "interactions.csv", "new"
Work = Callable[[Workspace, str], None]
"""Does a step in a workspace, on what is in a folder."""


def measure(
    sizes: Sequence[tuple[int, int]] = SIZES,
    num_rows: Sequence[int] = NUM_ROWS,
    *,
    progress: Progress = silent,
) -> Slopes:
    """Run every step on logs of these sizes, and fit what it takes. Raises UserError where the
    process of one is killed.

    Args:
        sizes: users and items of at least two logs that models learn from.
        num_rows: of at least two logs for ingest and task building.
    """
    runs: dict[str, list[Run]] = {step: [] for step in STEPS}
    large: dict[str, list[Run]] = {step: [] for step in _ON_LARGE}
    num_done, num_all = 0, len(sizes) * len(STEPS) + len(num_rows) * len(_ON_LARGE)
    for number in num_rows:
        with tempfile.TemporaryDirectory(prefix="recmeta-plan-") as place:
            _write_rows(Path(place), number)
            for step, work in _ON_LARGE.items():
                progress(f"{number:,} rows: {step}", num_done, num_all)
                large[step].append(_in_a_process(work, place))
                num_done += 1
    for num_users, num_items in sizes:
        with tempfile.TemporaryDirectory(prefix="recmeta-plan-") as place:
            config = SyntheticConfig(
                num_users=num_users, num_items=num_items, rows_per_user=ROWS_PER_USER, num_stars=5
            )
            write_csv(generate(config, seed=0), Path(place))
            many = dataclasses.replace(config, num_users=NEW_USERS * num_users)
            write_csv(generate(many, seed=1), Path(place) / NEW)
            for step in STEPS:
                progress(f"{num_users:,} users: {step}", num_done, num_all)
                runs[step].append(_in_a_process(_WORK[step], place))
                num_done += 1
    progress("measured", num_all, num_all)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    runs |= {step: large[step] for step in OF_DATA}
    measured_on = f"{today}, recmeta {library_versions().get('recmeta')}"
    return fit_all(machine(), measured_on, runs, large)


def _write_rows(folder: Path, num_rows: int) -> None:
    """Write ratings of users and items drawn at random, which nothing can be learned from."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, num_rows // kept.ROWS_PER_USER, num_rows)
    item = kept.ITEMS_PER_ROOT * math.sqrt(num_rows) * rng.random(num_rows) ** 2
    columns = {
        schema.USER_ID: user,
        schema.ITEM_ID: item.astype(np.int64),
        schema.TIMESTAMP: START + rng.integers(0, DURATION, num_rows),
        schema.VALUE: rng.integers(1, 6, num_rows),
    }
    pl.DataFrame(columns).select(
        pl.format("u{}", schema.USER_ID).alias(schema.USER_ID),
        pl.format("i{}", schema.ITEM_ID).alias(schema.ITEM_ID),
        schema.TIMESTAMP,
        pl.lit(schema.RATING_EVENT).alias(schema.EVENT),
        schema.VALUE,
    ).write_csv(folder / LOG)


def machine() -> str:
    """Return what this machine is: its processor, cores and memory."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    except (OSError, StopIteration):  # not Linux
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GB"


def _in_a_process(work: Work, place: str) -> Run:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_run, work, place).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"the process of {work.__name__.strip('_')} was killed, perhaps because memory ran "
                "out: measure on a machine with more of it, or while nothing else runs."
            ) from error


def _run(work: Work, place: str) -> Run:
    """Run a step, and return what it took."""
    workspace = Workspace(f"{place}/workspace")
    before = _size_of(place)
    start = time.process_time()
    work(workspace, place)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Run(
        size=_size(workspace),
        cpu_seconds=seconds,
        memory_bytes=peak * (1 if sys.platform == "darwin" else 1024),
        disk_bytes=_size_of(place) - before,
    )


def _size(workspace: Workspace) -> Size:
    tasks, scored = (_counts(workspace, step) for step in (build_tasks.STEP, score.STEP))
    return Size(
        rows=_counts(workspace, ingest.STEP)["accepted"],
        users=tasks.get("users", 0),
        items=tasks.get("items", 0),
        scored=scored.get("users", 0),
    )


def _counts(workspace: Workspace, step: Any) -> dict[str, int]:
    """Return what a step counted; nothing where it was not done yet."""
    if not (workspace / "manifests" / step).names():
        return {}
    return latest(workspace, step).counts


def _size_of(place: str) -> int:
    return sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())


def _mapping(folder: str) -> LogMapping:
    return LogMapping(
        path=f"{folder}/{LOG}",
        time_col=schema.TIMESTAMP,
        value_col=schema.VALUE,
        event_col=schema.EVENT,
    )


def _ingest(workspace: Workspace, place: str) -> None:
    ingest.run(_mapping(place), workspace)


def _build_tasks(workspace: Workspace, _: str) -> None:
    build_tasks.run(default().tasks, workspace)


def _meta_train(workspace: Workspace, _: str) -> None:
    tasks = latest(workspace, build_tasks.STEP)
    meta_train.run(default().training_for(tasks.outputs.objective), workspace, tasks)


def _train_briefly(workspace: Workspace, _: str) -> None:
    tasks = latest(workspace, build_tasks.STEP)
    meta_train.run(pipeline_config(learner="bayesian-linear", epochs=1).train, workspace, tasks)


def _evaluate(workspace: Workspace, _: str) -> None:
    tasks, trained = (latest(workspace, step) for step in (build_tasks.STEP, meta_train.STEP))
    evaluated = evaluate.run(default().evaluate, workspace, tasks, trained)
    register.run(workspace, evaluated, force=True)


def _score(workspace: Workspace, place: str) -> None:
    version = versions.champion(workspace)
    adapted = adapt.run(_mapping(f"{place}/{NEW}"), workspace, version=version)
    score.run(default().score, workspace, adapted)


_WORK: dict[Step, Work] = {
    "ingest": _ingest,
    "build-tasks": _build_tasks,
    "meta-train": _meta_train,
    "evaluate": _evaluate,
    "score": _score,
}
_ON_LARGE: dict[Step, Work] = {
    "ingest": _ingest,
    "build-tasks": _build_tasks,
    "meta-train": _train_briefly,
}
