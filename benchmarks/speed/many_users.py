"""MAML on a million synthetic users: one training pass in parts, and measurement on held-out users.

Ratings are q_i + b_u + p_u · v_i + ε with two tastes p_u, of items that a power law picks; the
noise's mean absolute error, 0.5 · sqrt(2 / π) = 0.399, is the lower bound. The learner's start is
fitted on the CPU to the first of the users. Needs no Polars.

Legend: U users, I items, N rows.
"""

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.speed.result import BenchmarkResult, OnRow, Row, machine, unheard
from benchmarks.speed.roofline import wait_for
from benchmarks.speed.training import begun, test_mae
from recmeta import schema
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import train
from recmeta.tasks.task_set import Objective
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.workspace import Folder

LEARNER = "maml"
NOISE, TASTES = 0.5, 2
FEWEST, MOST = 8, 16
"""Rows of a user, before an item that was picked twice is taken once."""
SHARES = ShareConfig(dev_share=0.002, test_share=0.01, num_support=5)
STARTED_ON = 20_000
"""The number of users to whom the start is fitted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManyUsers:
    """A log as `write_task_set` takes it."""

    interactions: pa.Table
    users: pa.Table
    items: pa.Table
    objective: Objective = "rating"

    def first(self, num_users: int) -> "ManyUsers":
        """Return the log of the first users alone, with all items."""
        users = self.users.slice(0, num_users)
        known = pc.is_in(self.interactions[schema.USER_ID], users[schema.USER_ID].combine_chunks())
        return dataclasses.replace(self, users=users, interactions=self.interactions.filter(known))


def log_of(num_users: int, num_items: int, seed: int = 0) -> ManyUsers:
    """Return a log with this number of users."""
    rng = np.random.default_rng(seed)
    share_I = np.cumsum(1 / np.arange(1, num_items + 1) ** 0.8)
    length_U = rng.integers(FEWEST, MOST + 1, num_users)
    user_N = np.repeat(np.arange(num_users), length_U)
    item_N = np.searchsorted(share_I, rng.random(len(user_N)) * share_I[-1])
    pair_N = np.unique(user_N * num_items + item_N)
    user_N, item_N = pair_N // num_items, pair_N % num_items
    quality_I, taste_IT = rng.normal(0, 0.4, num_items), rng.normal(0, 1, (num_items, TASTES))
    bias_U, taste_UT = rng.normal(0, 0.4, num_users), rng.normal(0, 0.4, (num_users, TASTES))
    value_N = 3.5 + quality_I[item_N] + bias_U[user_N] + rng.normal(0, NOISE, len(user_N))
    value_N += (taste_UT[user_N] * taste_IT[item_N]).sum(axis=1)
    user_ids = pa.array(np.arange(num_users)).cast(pa.string())
    item_ids = pa.array(np.arange(num_items)).cast(pa.string())
    return ManyUsers(
        interactions=pa.table(
            {
                schema.USER_ID: user_ids.take(pa.array(user_N)),
                schema.ITEM_ID: item_ids.take(pa.array(item_N)),
                schema.VALUE: pa.array(value_N.astype(np.float32)),
            }
        ),
        users=pa.table(
            {
                schema.USER_ID: user_ids,
                "group": pa.array(np.where(taste_UT[:, 0] > 0, "a", "b").tolist()),
            }
        ),
        items=pa.table(
            {
                schema.ITEM_ID: item_ids,
                schema.VALID_FROM: pa.array(np.full(num_items, schema.ALWAYS)),
                "year": pa.array(1980.0 + 10 * taste_IT[:, 0]),
            }
        ),
    )


def run(
    device: str = "cpu",
    *,
    users: int = 1_000_000,
    items: int = 10_000,
    batch_size: int = 8_192,
    parts: int = 16,
    on_row: OnRow = unheard,
) -> BenchmarkResult:
    """Train MAML on every user once, in parts, and measure on held-out users.

    Args:
        device: cpu or cuda.
        users, items: of the log.
        batch_size: users of an outer step.
        parts: into which the users fall; each begins with a new outer optimiser, and has a row.
        on_row: called after each part.
    """
    about = machine("torch", "numpy", "pyarrow")
    if device == "cuda":
        about |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        rows = _rows(Folder.at(Path(place)), device, (users, items), (batch_size, parts), on_row)
    return BenchmarkResult(
        name="many-users",
        title=f"MAML on {users:,} synthetic users, {device}",
        columns=("part", "users", "users_per_second", "train_loss", "test_mae", "peak_gib"),
        rows=rows,
        machine=about,
    )


def _rows(
    folder: Folder, device: str, size: tuple[int, int], how: tuple[int, int], on_row: OnRow
) -> list[Row]:
    (num_users, num_items), (batch_size, parts) = size, how
    began = time.perf_counter()
    log = log_of(num_users, num_items)
    task_set = write_task_set(log, folder / "tasks", SHARES)
    tasks = task_set.tasks("train")
    built = time.perf_counter()
    few = write_task_set(log.first(min(STARTED_ON, num_users)), folder / "few")
    config = begun(LEARNER, few, folder / "start")
    started = time.perf_counter()
    where = torch.device(device)
    model = Model.load(folder / "start", where).on(task_set.items(), task_set.statistics())
    preparing = {"log_seconds": built - began, "start_seconds": started - built}
    rows: list[Row] = []
    for part, users_b in enumerate(np.array_split(np.arange(len(tasks)), parts)):
        begun_at = time.perf_counter()
        (epoch,) = train(
            model,
            tasks.take(users_b),
            task_set.tasks("dev"),
            episodes=dataclasses.replace(config.episodes, batch_size=batch_size),
            config=dataclasses.replace(config.training, epochs=1),
            seed=part,
        )
        wait_for(where)
        seconds = time.perf_counter() - begun_at
        is_last = part == parts - 1
        row: Row = {
            "part": part + 1,
            "device": device,
            "users": len(users_b),
            "batch_size": batch_size,
            "seconds": seconds,
            "users_per_second": len(users_b) / seconds,
            "train_loss": epoch.train_loss,
            "dev_loss": epoch.dev_loss,
            "test_mae": test_mae(model, task_set) if part == 0 or is_last else None,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None,
            **preparing,
        }
        on_row(row)
        rows.append(row)
    return rows
