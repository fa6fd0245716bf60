"""Users are divided by the seed into those who train, those who choose and those who are cold.

Two papers' splits differ in their numbers alone: RecBole-MetaRec's of MovieLens 100K and TaNP's of
MovieLens 1M (Lin et al., WWW 2021).
"""

import dataclasses

import numpy as np

from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import (
    Development,
    Problem,
    lengths,
    ranks,
    shuffled,
    tasks_of,
    training_tasks,
    value_range,
)
from benchmarks.accuracy.record.top_rated import drawn_positives, top_rated
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

STATE = "user_cold"
TRAIN_QUERY = 10
"""Query rows of a training user, for learners that do not draw their own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserSplit:
    """How users, and the rows of a cold user, are divided."""

    fewest: int
    most: int
    """Rows that a user has, at least and at most; other users are left out."""
    dev_share: float
    cold_share: float
    """Shares of the users who choose hyperparameters, and of those who are cold."""
    num_support: int | None = None
    """Random rows of a cold user that are support, all others being query. If None, all but
    `num_query`."""
    num_query: int = 10
    """Random rows of a cold user that are query, where `num_support` is None."""
    met_items_only: bool = False
    """Whether a cold user's rows of items that no training user has met are left out."""

    def problem(self, log: Log, training: str, seed: int) -> Problem:
        """Return what learners see: the rows of the users who train or choose."""
        order, role_U = self._divided(log, seed)
        is_dev = (role_U == _DEV)[log.user[order]]
        warm = order[(role_U != _COLD)[log.user[order]]]
        train = order[(role_U == _TRAIN)[log.user[order]]]
        return Problem(
            name=log.about["name"],
            objective="rating",
            value_range=value_range(log, warm),
            items=log.items,
            train=training_tasks(log, warm, TRAIN_QUERY),
            development={
                STATE: Development(
                    train=training_tasks(log, train, TRAIN_QUERY),
                    judges=self._tasks(log, order[is_dev], log.item[train]),
                )
            },
        )

    def cold_users(self, log: Log, seed: int) -> dict[str, Tasks]:
        """Return the cold users' tasks; the seed draws users and rows."""
        order, role_U = self._divided(log, seed)
        of_role = role_U[log.user[order]]
        met = log.item[order[of_role != _COLD]]
        return {STATE: self._tasks(log, order[of_role == _COLD], met)}

    def _divided(self, log: Log, seed: int) -> tuple[IntArray, IntArray]:
        """Return the rows of the users who have neither too few nor too many, at random within a
        user, and (U,) each user's role. Neither looks at items or values."""
        generator = np.random.default_rng([seed, 0])
        order = shuffled(log, generator)
        num_rows = lengths(log.user)[order]
        order = order[(num_rows >= self.fewest) & (num_rows <= self.most)]
        users = generator.permutation(np.unique(log.user[order]))
        num_cold, num_dev = (round(s * len(users)) for s in (self.cold_share, self.dev_share))
        role_U = np.full(log.num_users, _TRAIN)
        role_U[users[:num_cold]] = _COLD
        role_U[users[num_cold : num_cold + num_dev]] = _DEV
        return order, role_U

    def _tasks(self, log: Log, rows: IntArray, met: IntArray) -> Tasks:
        """Return tasks of these rows; of items not met, and of users who then have too few, there
        are none."""
        if self.met_items_only:
            rows = rows[np.isin(log.item[rows], met)]
            rows = rows[lengths(log.user[rows]) >= self.fewest]
        place, length = ranks(log.user[rows]), lengths(log.user[rows])
        num_query = self.num_query if self.num_support is None else length - self.num_support
        return tasks_of(log, rows, place < num_query, state=STATE)


_TRAIN, _DEV, _COLD = range(3)
METAREC = UserSplit(fewest=13, most=100, dev_share=0.1, cold_share=0.1)
TANP = UserSplit(
    fewest=30, most=200, dev_share=0.1, cold_share=0.2, num_support=20, met_items_only=True
)


def metarec_metrics(order_N: Scores, query: Ragged) -> dict[str, Float64Array]:
    """Return (B,) the metrics of RecBole-MetaRec, and precision@5 by the ratings themselves."""
    return {"precision@5": top_rated(order_N, query, (5,))["precision@5"]} | drawn_positives(
        order_N, query, 5
    )


def tanp_metrics(order_N: Scores, query: Ragged) -> dict[str, Float64Array]:
    """Return (B,) the metrics of TaNP that `cells.rating_metrics` lacks."""
    return top_rated(order_N, query, (5, 7))
