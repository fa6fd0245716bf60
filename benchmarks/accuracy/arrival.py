"""The times at which users appear, and the time before which all rows may be learned from."""

import numpy as np

from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import lengths, ranks, tasks_of
from recmeta import schema
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.task_set import Tasks


def first_times(log: Log) -> IntArray:
    """Return (U,) the time at which each user appears, or the largest number for a user without
    rows."""
    assert log.time is not None
    first_U = np.full(log.num_users, schema.END_OF_TIME)
    np.minimum.at(first_U, log.user, log.time)
    return first_U


def first_cold(log: Log, share: float) -> int:
    """Return the time at which the first of the `share` of users who appear last appears."""
    first = np.sort(first_times(log)[np.unique(log.user)])
    return int(first[round((1 - share) * len(first))])


def before(log: Log, time: int) -> Log:
    """Return only the rows before a time."""
    assert log.time is not None
    return log.select(log.time < time)


def halves(log: Log) -> Tasks:
    """Return a task per user: the first half of the rows is support, the second query."""
    rows = np.arange(len(log.user))
    is_query = ranks(log.user) >= lengths(log.user) // 2
    return tasks_of(log, rows, is_query, state="warm", counted=True)
