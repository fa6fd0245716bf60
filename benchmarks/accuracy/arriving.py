"""The first rows of a log, and the users who come later.

Legend: N rows, U users.
"""

import dataclasses

import numpy as np

from benchmarks.accuracy.arrival import halves
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Development, Problem, lengths, ranks, tasks_of, value_range
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.task_set import Tasks

SHOTS = (0, 1, 5, 10)
HELD_OUT_SHARE = 0.1
DEV_SHARE = 0.2
MOST_QUERY, FEWEST_QUERY = 20, 5
MOST_USERS = 300


@dataclasses.dataclass(frozen=True)
class Arrived:
    """A log in the order in which its rows came."""

    log: Log
    order_N: IntArray
    """(N,) positions of the rows, the first to come first."""
    is_held_U: BoolArray
    """(U,) who is held out."""

    @classmethod
    def of(cls, log: Log, seed: int) -> "Arrived":
        """Return the order of a log's rows, and the users who come last."""
        generator = np.random.default_rng(seed)
        if log.time is None:
            place_U = generator.permutation(log.num_users)
            order_N = np.lexsort((generator.random(len(log.user)), place_U[log.user]))
        else:
            order_N = np.argsort(log.time, kind="stable")
            first_U = np.full(log.num_users, len(order_N))
            np.minimum.at(first_U, log.user[order_N], np.arange(len(order_N)))
            place_U = np.argsort(np.argsort(first_U, kind="stable"), kind="stable")
        is_held_U = place_U >= round((1 - HELD_OUT_SHARE) * log.num_users)
        return cls(log, order_N, is_held_U)

    def first(self, size: int | None) -> IntArray:
        """Return the positions of the first rows, sorted by user, none of a held-out user's."""
        before = np.flatnonzero(self.is_held_U[self.log.user[self.order_N]])[0]
        rows = self.order_N[: before if size is None else min(size, before)]
        return rows[np.argsort(self.log.user[rows], kind="stable")]

    def held_out(self, seed: int) -> Tasks:
        """Return the held-out users' tasks: ten rows are support, what comes next is query."""
        rows = self.order_N[np.argsort(self.log.user[self.order_N], kind="stable")]
        user, most = self.log.user[rows], max(SHOTS)
        enough = self.is_held_U[user] & (lengths(user) >= most + FEWEST_QUERY)
        users = np.unique(user[enough])
        if len(users) > MOST_USERS:
            drawn = np.random.default_rng(seed).choice(users, MOST_USERS, replace=False)
            enough &= np.isin(user, drawn)
        kept = enough & (ranks(user) < most + MOST_QUERY)
        return tasks_of(self.log, rows[kept], ranks(user)[kept] >= most, state="user_cold")


def problem_of(arrived: Arrived, rows: IntArray, *, is_graded: bool) -> Problem:
    """Return what learners see of the first rows."""
    log = arrived.log
    came_N = np.argsort(arrived.order_N)
    by_arrival = rows[np.argsort(came_N[rows])]
    appeared = list(dict.fromkeys(log.user[by_arrival].tolist()))
    num_judges = round(DEV_SHARE * len(appeared)) if len(appeared) >= 5 else 0
    judges = np.array(appeared[len(appeared) - num_judges :], np.int64)
    seen = np.zeros(len(log.user), np.bool_)
    seen[rows] = True
    is_judge = np.isin(log.user, judges)
    own = log.select(seen & is_judge)
    of_judges = tasks_of(
        own, np.arange(len(own.user)), ranks(own.user) >= lengths(own.user) // 2, state="dev"
    )
    return Problem(
        name=log.about["name"],
        objective="rating" if is_graded else "implicit",
        value_range=value_range(log, rows),
        items=log.items,
        train=halves(log.select(seen)),
        development={
            "user_cold": Development(train=halves(log.select(seen & ~is_judge)), judges=of_judges)
        },
    )
