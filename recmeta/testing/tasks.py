"""A task set out of a synthetic log, with numpy alone: no table, no workspace, no Polars.

Legend: N interactions, U users, I items.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.tasks.arrays import Float32Array, IntArray, offsets_of
from recmeta.tasks.item_files import (
    HistoryPiece,
    Items,
    ItemStatistics,
    stored_name,
    write_history,
    write_items,
    write_statistics,
)
from recmeta.tasks.task_set import (
    SPLITS,
    TASK_COLUMNS,
    Objective,
    TaskSet,
    TaskSetSpec,
    write_shard,
    write_spec,
)
from recmeta.workspace import Folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShareConfig:
    """Who trains, who chooses, who is tested; and how much of each user is support."""

    dev_share: float = 0.15
    """Share of users for early stopping."""
    test_share: float = 0.25
    """Share of users whom no model sees before it is tested."""
    num_support: int = 10
    """A user's first rows, up to half of them, are support; all others are query."""


class Log(Protocol):
    """A log in the columns of `recmeta.schema`, such as a `SyntheticLog`."""

    @property
    def interactions(self) -> pa.Table:
        """`user_id`, `item_id`, `value`, … by user and time."""
        ...

    @property
    def users(self) -> pa.Table:
        """`user_id` and attributes."""
        ...

    @property
    def items(self) -> pa.Table:
        """`item_id`, `valid_from` and attributes."""
        ...

    @property
    def objective(self) -> Objective:
        """What the values are."""
        ...


def write_task_set(log: Log, folder: Folder, config: ShareConfig | None = None) -> TaskSet:
    """Write a synthetic log as a task set and return it, opened.

    Users fall into the splits in the order of their ids, which means nothing in a synthetic log.
    The item statistics count the meta-training users' rows.
    """
    config = config or ShareConfig()
    num_users, num_items = log.users.num_rows, log.items.num_rows
    user_N = _numbers(log.interactions[schema.USER_ID], log.users[schema.USER_ID])
    item_N = _numbers(log.interactions[schema.ITEM_ID], log.items[schema.ITEM_ID])
    value_N = log.interactions[schema.VALUE].to_numpy().astype(np.float32)
    split_U = _splits(num_users, config)
    counted_N = split_U[user_N] == "train"
    length_U = np.bincount(user_N, minlength=num_users)
    table = pa.table(
        [
            pa.array(np.full(num_users, schema.END_OF_TIME)),
            pa.array(np.ones(num_users, np.int32)),
            pa.array(np.where(split_U == "test", "user_cold", "warm")),
            *_sides((item_N.astype(np.int32), value_N, counted_N), length_U, config.num_support),
        ],
        names=list(TASK_COLUMNS),
    )
    for name in log.users.column_names:
        if name != schema.VALID_FROM:
            table = table.append_column(stored_name(name, TASK_COLUMNS), log.users[name])
    for split in SPLITS:
        write_shard(folder, split, 0, table.filter(pa.array(split_U == split)))
    training_N = value_N[counted_N]
    write_statistics(folder, _statistics(item_N[counted_N], training_N, num_items))
    num_files = write_history(folder, [HistoryPiece(item_N[counted_N].astype(np.int32))])
    write_items(folder, _items(log))
    write_spec(
        folder,
        TaskSetSpec(
            objective=log.objective,
            value_range=(float(training_N.min()), float(training_N.max())),
            num_items=num_items,
            num_tasks={split: int((split_U == split).sum()) for split in SPLITS},
            num_shards=dict.fromkeys(SPLITS, 1),
            num_interactions=len(user_N),
            temporal=False,
            num_history_files=num_files,
        ),
    )
    return TaskSet(folder)


def _splits(num_users: int, config: ShareConfig) -> npt.NDArray[np.str_]:
    """Return (U,) the split of each user."""
    share_U = np.arange(num_users) / num_users
    return np.select(
        [share_U < config.test_share, share_U < config.test_share + config.dev_share],
        ["test", "dev"],
        "train",
    )


def _sides(
    columns: Sequence[npt.NDArray[np.generic]], length_U: IntArray, num_support: int
) -> list[pa.Array]:
    """Return the columns as lists by user: first those of the support, then those of the query.

    Args:
        columns: (N,) each, by user.
        length_U: rows of each user.
    """
    first_U = np.cumsum(length_U) - length_U
    support_U = np.minimum(num_support, length_U // 2)
    sides = ((first_U, support_U), (first_U + support_U, length_U - support_U))
    return [_in_lists(column, start_U, rows_U) for start_U, rows_U in sides for column in columns]


def _in_lists(
    column: npt.NDArray[np.generic],
    start_U: IntArray,
    rows_U: IntArray,
) -> pa.Array:
    """Return U lists: of each user, so many rows of a column from where they start."""
    offsets = offsets_of(rows_U).astype(np.int32)
    rows = np.arange(offsets[-1]) + np.repeat(start_U - offsets[:-1], rows_U)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(column[rows]))


def _statistics(item_N: IntArray, value_N: Float32Array, num_items: int) -> ItemStatistics:
    """Return two snapshots: before everything, and with these interactions."""
    count_I = np.bincount(item_N, minlength=num_items)
    total_I = np.bincount(item_N, weights=value_N, minlength=num_items)
    return ItemStatistics(
        np.array([schema.ALWAYS, schema.END_OF_TIME]),
        np.stack([np.zeros(num_items), count_I]).astype(np.float32),
        np.stack([np.zeros(num_items), total_I]).astype(np.float32),
    )


def _items(log: Log) -> Items:
    num_items = log.items.num_rows
    return Items(
        log.items[schema.ITEM_ID].combine_chunks(),
        np.arange(num_items, dtype=np.int32),
        np.full(num_items, schema.ALWAYS),
        log.items.drop_columns([schema.ITEM_ID, schema.VALID_FROM]),
    )


def _numbers(values: pa.ChunkedArray, known: pa.ChunkedArray) -> IntArray:
    """Return (N,) the place of each value among those that are known."""
    found: IntArray = (
        pc.index_in(values.combine_chunks(), known.combine_chunks()).to_numpy().astype(np.int64)
    )
    return found
