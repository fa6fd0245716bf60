"""A task set out of a synthetic log, with numpy alone: no table, no workspace, no Polars.

Legend: N interactions, U users, I items.
"""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.tasks.task_set import (
    SPLITS,
    TASK_COLUMNS,
    Items,
    ItemStatistics,
    Objective,
    TaskSet,
    TaskSetSpec,
    write_items,
    write_shard,
    write_spec,
    write_statistics,
)
from recmeta.workspace import Folder

ALWAYS = int(np.iinfo(np.int64).min)
END_OF_TIME = int(np.iinfo(np.int64).max)


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
    user = _numbers(log.interactions[schema.USER_ID], log.users[schema.USER_ID])
    item = _numbers(log.interactions[schema.ITEM_ID], log.items[schema.ITEM_ID])
    value = log.interactions[schema.VALUE].to_numpy().astype(np.float32)
    length_U = np.bincount(user, minlength=num_users)
    first_U = np.cumsum(length_U) - length_U
    support_U = np.minimum(config.num_support, length_U // 2)
    share_U = np.arange(num_users) / num_users
    split_U = np.select(
        [share_U < config.test_share, share_U < config.test_share + config.dev_share],
        ["test", "dev"],
        "train",
    )
    counted = split_U[user] == "train"

    def column(
        values: npt.NDArray[np.generic],
        start_U: npt.NDArray[np.int64],
        rows_U: npt.NDArray[np.int64],
    ) -> pa.Array:
        offsets = np.concatenate([[0], np.cumsum(rows_U)]).astype(np.int32)
        rows = np.arange(offsets[-1]) + np.repeat(start_U - offsets[:-1], rows_U)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[rows]))

    numbers = item.astype(np.int32)
    query_U = length_U - support_U
    lists = [
        column(values, start, rows)
        for start, rows in ((first_U, support_U), (first_U + support_U, query_U))
        for values in (numbers, value, counted)
    ]
    plain = [
        pa.array(np.full(num_users, END_OF_TIME)),
        pa.array(np.ones(num_users, np.int32)),
        pa.array(np.where(split_U == "test", "user_cold", "warm")),
    ]
    table = pa.table([*plain, *lists], names=list(TASK_COLUMNS))
    for name in log.users.column_names:
        if name != schema.VALID_FROM:
            table = table.append_column(name, log.users[name])
    for split in SPLITS:
        write_shard(folder, split, 0, table.filter(pa.array(split_U == split)))

    count_I = np.bincount(item[counted], minlength=num_items)
    total_I = np.bincount(item[counted], weights=value[counted], minlength=num_items)
    write_statistics(
        folder,
        ItemStatistics(
            np.array([ALWAYS, END_OF_TIME]),
            np.stack([np.zeros(num_items), count_I]).astype(np.float32),
            np.stack([np.zeros(num_items), total_I]).astype(np.float32),
        ),
    )
    write_items(
        folder,
        Items(
            log.items[schema.ITEM_ID].combine_chunks(),
            np.arange(num_items, dtype=np.int32),
            np.full(num_items, ALWAYS),
            log.items.drop_columns([schema.ITEM_ID, schema.VALID_FROM]),
        ),
    )
    training = value[counted]
    write_spec(
        folder,
        TaskSetSpec(
            objective=log.objective,
            value_range=(float(training.min()), float(training.max())),
            num_items=num_items,
            num_tasks={split: int((split_U == split).sum()) for split in SPLITS},
            num_shards=dict.fromkeys(SPLITS, 1),
            num_interactions=len(user),
            temporal=False,
        ),
    )
    return TaskSet(folder)


def _numbers(values: pa.ChunkedArray, known: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = (
        pc.index_in(values.combine_chunks(), known.combine_chunks()).to_numpy().astype(np.int64)
    )
    return found
