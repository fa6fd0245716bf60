"""Learners trained by their recipes on MovieLens 1M, on a device and on the CPU of its machine.

All ratings, users in random order: a quarter is tested, 15 % say when to stop, the others train.
Where MovieLens 1M is absent, a synthetic log of its size stands in. A learner starts once, on the
CPU; each training then begins with the same parameters and draws the same episodes, so that on both
devices the development losses must agree epoch by epoch. Needs no Polars.

Legend: N interactions, U users.
"""

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.speed.melu_shape import data_folder
from benchmarks.speed.result import BenchmarkResult, OnRow, Row, machine, unheard
from benchmarks.speed.roofline import wait_for
from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import Epoch, train
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.episodes import epoch
from recmeta.tasks.task_set import Objective, Tasks, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import Log, write_task_set
from recmeta.training.config import MetaTrainConfig
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder

LEARNERS = ("bayesian-linear", "maml")
LARGE_BATCH = 1_024
"""The batch size that gives a GPU more work than a recipe's."""
TOLERANCE = 0.01
"""Largest relative difference of development losses between devices: float32 adds up in another
order there, and what is learned from it drifts."""
NUM_TIMED_STEPS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovieLens:
    """MovieLens 1M as `write_task_set` takes it."""

    interactions: pa.Table
    users: pa.Table
    items: pa.Table
    objective: Objective = "rating"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    learner: str
    device: str
    batch_size: int
    epochs: int


def run(
    device: str = "cpu",
    *,
    epochs: int = 4,
    users: int | None = None,
    learners: Sequence[str] | None = None,
    threads: int = 1,
    on_row: OnRow = unheard,
) -> BenchmarkResult:
    """Train each learner by its recipe on the device and on the CPU, then in large batches on the
    device.

    Args:
        device: cpu or cuda; with cpu each training runs once.
        epochs: of each training. MAML's recipe trains half as many, since its batches are small.
        users: the number of users of the log, or None for all.
        learners: their names, or None for LEARNERS.
        threads: of PyTorch on the CPU.
        on_row: called with each row as soon as it is measured.

    Raises:
        AssertionError: if the devices' development losses differ by more than TOLERANCE.
    """
    about = machine("torch", "numpy", "pyarrow")
    if device == "cuda":
        about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory() as place:
            source, log = log_of(users)
            task_set = write_task_set(log, Folder.at(place) / "tasks")
            for learner in learners or LEARNERS:
                folder = Folder.at(place) / learner
                started = time.perf_counter()
                config = begun(learner, task_set, folder)
                start_seconds = time.perf_counter() - started
                for one in plan(learner, config, device, epochs):
                    row = {
                        **dataclasses.asdict(one),
                        "source": source,
                        "threads": threads,
                        "start_seconds": start_seconds,
                        **trained(one, config, task_set, folder),
                    }
                    on_row(row)
                    rows.append(row)
    finally:
        torch.set_num_threads(before)
    check(rows)
    return BenchmarkResult(
        name="training",
        title=f"Training by recipes ({source})",
        columns=(
            "learner",
            "device",
            "batch_size",
            "epoch_seconds",
            "users_per_second",
            "step_ms",
            "dev_losses",
            "peak_gib",
        ),
        rows=rows,
        machine=about,
    )


def log_of(users: int | None) -> tuple[str, Log]:
    """Return the log and its name: `ml-1m`, or `synthetic` where that is absent.

    Args:
        users: their number, or None for all.
    """
    folder = data_folder()
    if folder is not None:
        return "ml-1m", _movielens(folder, users)
    size = SyntheticConfig(num_users=users or 6_040, num_items=3_700, rows_per_user=(20, 310))
    return "synthetic", generate(size, seed=0)


def begun(learner: str, task_set: TaskSet, folder: Folder) -> MetaTrainConfig:
    """Save the model that the learner's training begins with; return how it is trained. Layers are
    trained without their base.

    Raises:
        UserError: for an unknown learner, or one whose training has several parts.
    """
    config = training_of(learner)
    if config.model.learner.begins_trained:
        config = dataclasses.replace(config, members=())
    if config.members:
        raise UserError(f"{learner} trains its members first: name a learner without members.")
    at_start(config, task_set, torch.device("cpu")).model.save(folder)
    return config


def plan(learner: str, config: MetaTrainConfig, device: str, epochs: int) -> Iterator[Run]:
    """Yield a learner's trainings, those that are compared first."""
    small = config.episodes.batch_size
    few = max(1, epochs // 2) if small < 64 else epochs
    for where in dict.fromkeys((device, "cpu")):
        yield Run(learner=learner, device=where, batch_size=small, epochs=few)
    yield Run(learner=learner, device=device, batch_size=LARGE_BATCH, epochs=epochs)


def trained(one: Run, config: MetaTrainConfig, task_set: TaskSet, folder: Folder) -> Row:
    """Return what a training took, and its losses."""
    device = torch.device(one.device)
    model = Model.load(folder, device).on(task_set.items(), task_set.statistics())
    if one.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ends = [time.perf_counter()]

    def on_epoch(_: Epoch) -> None:
        wait_for(device)
        ends.append(time.perf_counter())

    train_tasks = task_set.tasks("train")
    episodes = dataclasses.replace(config.episodes, batch_size=one.batch_size)
    history = train(
        model,
        train_tasks,
        task_set.tasks("dev"),
        episodes=episodes,
        config=dataclasses.replace(config.training, epochs=one.epochs, patience=one.epochs),
        seed=0,
        on_epoch=on_epoch,
    )
    seconds = np.diff(ends)
    # The first epoch also loads kernels.
    typical = float(np.median(seconds[1:] if len(seconds) > 1 else seconds))
    peak = torch.cuda.max_memory_allocated() / 2**30 if one.device == "cuda" else None
    return {
        "first_epoch_seconds": float(seconds[0]),
        "epoch_seconds": typical,
        "users_per_second": len(train_tasks) / typical,
        "train_losses": [e.train_loss for e in history],
        "dev_losses": [e.dev_loss for e in history],
        "test_mae": test_mae(model, task_set),
        "peak_gib": peak,
        **_step(model, next(epoch(train_tasks, episodes, np.random.default_rng(0)))[1]),
    }


def check(rows: Sequence[Row]) -> None:
    """Raise AssertionError if a learner's losses differ between the devices."""
    on_cpu = {(r["learner"], r["batch_size"]): r for r in rows if r["device"] == "cpu"}
    for row in rows:
        other = on_cpu.get((row["learner"], row["batch_size"]))
        if other is None:
            continue
        for ours, theirs in zip(row["dev_losses"], other["dev_losses"], strict=True):
            if abs(ours - theirs) > TOLERANCE * theirs:
                raise AssertionError(
                    f"{row['learner']} has development losses {row['dev_losses']} on "
                    f"{row['device']} and {other['dev_losses']} on the CPU"
                )


def test_mae(model: Model, task_set: TaskSet) -> float:
    """Return the mean absolute error on held-out users."""
    test = task_set.tasks("test")
    error_N = np.abs(Scorer.of(model).score_query(test) - test.query.value)
    return float((np.bincount(test.query.task, error_N) / test.query.lengths).mean())


def _step(model: Model, tasks: Tasks) -> dict[str, Any]:
    """Return the milliseconds of a batch's meta-gradient; on a GPU also how many kernels it starts
    and for how long these run. The difference is what starting them costs."""
    batch = model.batch(tasks)
    generator = torch.Generator()

    def step() -> None:
        model.learner.meta_gradient(model.params, batch, generator)
        wait_for(model.device)

    step()
    begun_at = time.perf_counter()
    for _ in range(NUM_TIMED_STEPS):
        step()
    found: dict[str, Any] = {
        "step_ms": 1e3 * (time.perf_counter() - begun_at) / NUM_TIMED_STEPS,
    }
    if model.device.type == "cuda":
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            step()
        kernels = [e for e in profiler.events() if e.device_type.name == "CUDA"]
        found["kernels"] = len(kernels)
        found["kernel_ms"] = sum(e.device_time for e in kernels) / 1e3
    return found


def _movielens(folder: Path, users: int | None) -> MovieLens:
    """Return MovieLens 1M with its users in a random order; each one's rows are in theirs."""
    profile = pq.read_table(folder / "users.parquet")
    order_U = np.random.default_rng(0).permutation(profile.num_rows)[:users]
    profile = profile.take(pa.array(order_U))
    rows = pq.read_table(
        folder / "interactions.parquet", columns=["user_id", "item_id", "rating", "order"]
    )
    place_U = _place_of(profile["user_id"].to_numpy(), rows["user_id"].to_numpy())
    kept = np.flatnonzero(place_U >= 0)
    kept = kept[np.lexsort((rows["order"].to_numpy()[kept], place_U[kept]))]
    rows = rows.take(pa.array(kept))
    items = pq.read_table(folder / "items.parquet")

    def text(table: pa.Table, name: str) -> pa.ChunkedArray:
        return table[name].cast(pa.string())

    return MovieLens(
        interactions=pa.table(
            {
                schema.USER_ID: text(rows, "user_id"),
                schema.ITEM_ID: text(rows, "item_id"),
                schema.VALUE: rows["rating"].cast(pa.float32()),
            }
        ),
        users=pa.table(
            {
                schema.USER_ID: text(profile, "user_id"),
                "gender": text(profile, "gender"),
                "age": text(profile, "age_range"),
                "occupation": text(profile, "occupation"),
            }
        ),
        items=pa.table(
            {
                schema.ITEM_ID: text(items, "item_id"),
                schema.VALID_FROM: pa.array(np.full(items.num_rows, schema.ALWAYS)),
                "year": items["year"].cast(pa.float64()),
                "genres": items["genres"],
            }
        ),
    )


def _place_of(known: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where each wanted number is among the known ones; -1 for those that are not."""
    place = np.full(max(int(known.max()), int(wanted.max())) + 1, -1)
    place[known] = np.arange(len(known))
    found: npt.NDArray[np.int64] = place[wanted]
    return found
