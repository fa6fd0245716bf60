"""The data that a learner may see, and the cold users, whom it may not see.

Legend: N rows of a log, B tasks.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.accuracy.log import Log
from recmeta import schema
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.tasks.arrays import BoolArray, IntArray, offsets_of
from recmeta.tasks.item_files import Items, ItemStatistics
from recmeta.tasks.task_set import Objective, Ragged, Tasks

BEFORE_ALL, OF_TRAINING = 0, 1
"""The snapshots of the item statistics: one without any row, and one with the rows of the training
users."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Development:
    """The data on which hyperparameters are chosen, from warm rows alone."""

    train: Tasks
    """The tasks that a candidate is fitted to."""
    judges: Tasks
    """The tasks whose queries decide among the candidates; none of their rows is in `train`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything that a learner may see before the final evaluation."""

    name: str
    """The name of the data set."""
    objective: Objective
    value_range: tuple[float, float]
    """Smallest and largest value of the training rows."""
    items: Items
    train: Tasks
    """All warm rows of this training, judges included, for the final fit."""
    development: Mapping[str, Development]
    """The development data, by the state of the cold users that the choice is for."""

    @property
    def num_items(self) -> int:
        """Items in the catalogue."""
        return len(self.items.item_id)


def shuffled(log: Log, generator: np.random.Generator) -> IntArray:
    """Return (N,) positions of the rows, sorted by user and at random within each."""
    order: IntArray = np.lexsort((generator.random(len(log.user)), log.user))
    return order


def ranks(user_N: IntArray) -> IntArray:
    """Return (N,) each row's place among its user's rows, from 0. Rows must be sorted by user."""
    length_U = np.bincount(user_N) if len(user_N) else np.zeros(0, np.int64)
    first_U = np.cumsum(length_U) - length_U
    place: IntArray = np.arange(len(user_N)) - first_U[user_N]
    return place


def lengths(user_N: IntArray) -> IntArray:
    """Return (N,) the number of rows of each row's user."""
    count: IntArray = np.bincount(user_N)[user_N] if len(user_N) else np.zeros(0, np.int64)
    return count


def tasks_of(
    log: Log, rows: IntArray, is_query: BoolArray, *, state: str, counted: bool = False
) -> Tasks:
    """Return a task per user of the given rows.

    Args:
        rows: positions in the log, sorted by user; their order within a user is kept.
        is_query: for each of `rows`, whether it is query; otherwise it is support.
        state: of all these tasks.
        counted: whether the rows are part of the item statistics that the tasks read.
    """
    user = log.user[rows]
    users, task = np.unique(user, return_inverse=True)

    def side(keep: BoolArray) -> Ragged:
        chosen = rows[keep]
        length = np.bincount(task[keep], minlength=len(users))
        return Ragged(
            offsets_of(length),
            log.item[chosen].astype(np.int32),
            log.value[chosen],
            np.full(len(chosen), counted),
        )

    return Tasks(
        log.profiles.take(pa.array(users)),
        np.full(len(users), schema.END_OF_TIME),
        np.full(len(users), OF_TRAINING, np.int32),
        np.full(len(users), state),
        side(~is_query),
        side(is_query),
    )


def training_tasks(log: Log, rows: IntArray, num_query: int) -> Tasks:
    """Return the tasks of training users: the first rows of each are query, at most half.

    Learners that resample their episodes and those that read all rows alike do not look at this.
    """
    rows = rows[np.argsort(log.user[rows], kind="stable")]
    user = log.user[rows]
    is_query = ranks(user) < np.minimum(num_query, (lengths(user) + 1) // 2)
    return tasks_of(log, rows, is_query, state="warm", counted=True)


def value_range(log: Log, rows: IntArray) -> tuple[float, float]:
    """Return the smallest and the largest value of these rows."""
    values: npt.NDArray[np.float32] = log.value[rows]
    return float(values.min()), float(values.max())


def statistics_of(train: Tasks, num_items: int) -> ItemStatistics:
    """Return the statistics of each item's training rows, as snapshot `OF_TRAINING`."""
    rows = training_rows(train)
    count_I = np.bincount(rows.item, minlength=num_items)
    total_I = np.bincount(rows.item, rows.value.astype(np.float64), minlength=num_items)
    zeros_I = np.zeros(num_items)
    return ItemStatistics(
        np.array([schema.ALWAYS, schema.END_OF_TIME]),
        np.stack([zeros_I, count_I]).astype(np.float32),
        np.stack([zeros_I, total_I]).astype(np.float32),
    )
