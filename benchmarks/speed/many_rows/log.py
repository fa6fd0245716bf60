"""A log of any size as Parquet files, in the order of time, with something to learn in it.

Users differ in how active they are and items in how popular, by power laws. A rating is

    r = 3.5 + quality of the item + bias of the user + tastes of the user · tastes of the item + ε

rounded to a whole number from 1 to 5.

Legend: U users, I items, N rows of a piece, d tastes.
"""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.speed.build_tasks.synthetic_log import ranks
from recmeta.tasks.arrays import Float64Array, IntArray

START, SECONDS = 1_600_000_000, 365 * 86_400
ROWS_PER_FILE = 500_000
NUM_TASTES = 2
NOISE = 0.5
"""Standard deviation of ε."""
NEW_ROWS = 8
"""Rows of each new user."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogSize:
    """How large a log is."""

    num_rows: int
    num_users: int
    """Users who have the rows."""
    num_items: int
    new_users: int
    """Users who come afterwards, and get a list."""


def write(size: LogSize, folder: Path, seed: int = 0) -> None:
    """Write the log into `log/` and the interactions of new users into `new.parquet`."""
    rng = np.random.default_rng(seed)
    quality_I = rng.normal(0, 0.4, size.num_items)
    taste_Id = rng.normal(0, 1, (size.num_items, NUM_TASTES))
    people_Uw = rng.normal(0, 0.4, (size.num_users + size.new_users, 1 + NUM_TASTES))

    def frame(user_N: IntArray, item_N: IntArray, time_N: IntArray) -> pl.DataFrame:
        value_N: Float64Array = (
            3.5
            + quality_I[item_N]
            + people_Uw[user_N, 0]
            + np.einsum("nd,nd->n", people_Uw[user_N, 1:], taste_Id[item_N])
            + rng.normal(0, NOISE, len(user_N))
        )
        return pl.DataFrame(
            {
                "user_id": user_N,
                "item_id": item_N,
                "timestamp": time_N,
                "rating": value_N.round().clip(1, 5).astype(np.int8),
            }
        ).with_columns(
            pl.format("u{}", "user_id").alias("user_id"),
            pl.format("i{}", "item_id").alias("item_id"),
        )

    # Ids in another order than activity and popularity.
    user_U, item_I = rng.permutation(size.num_users), rng.permutation(size.num_items)
    (folder / "log").mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, size.num_rows, ROWS_PER_FILE)):
        last = min(first + ROWS_PER_FILE, size.num_rows)
        begin, end = (START + SECONDS * row // size.num_rows for row in (first, last))
        rows = frame(
            user_U[ranks(last - first, size.num_users, rng)],
            item_I[ranks(last - first, size.num_items, rng)],
            np.sort(rng.integers(begin, end, last - first)),
        )
        rows.write_parquet(folder / "log" / f"part-{number:05d}.parquet")
    user_N = np.repeat(np.arange(size.num_users, len(people_Uw)), NEW_ROWS)
    new = frame(
        user_N,
        item_I[ranks(len(user_N), size.num_items, rng)],
        START + SECONDS + np.arange(len(user_N)),
    )
    new.unique(["user_id", "item_id"], maintain_order=True).write_parquet(folder / "new.parquet")
