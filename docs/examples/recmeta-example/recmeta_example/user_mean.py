"""The mean of what a user has given, whatever the item.

Legend: B users, N query rows, I items.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from recmeta.evaluation.baseline import Baseline, each, fixed
from recmeta.evaluation.baseline_parts.rows import mean_value, sum_by_task, training_rows
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserMeanConfig:
    """How far a user's mean is drawn to that of all."""

    shrinkage: float = 5.0
    """Imaginary ratings at the mean of all training values that every user starts with."""


@dataclasses.dataclass(frozen=True)
class UserMean:
    """Predicts the mean of the support and of the imaginary ratings."""

    mean: float
    num_items: int
    config: UserMeanConfig
    name: ClassVar[str] = "user-mean"
    predicts_values: ClassVar[bool] = True

    def of_users(self, tasks: Tasks) -> Float64Array:
        """Return (B,) each user's mean."""
        support, shrinkage = tasks.support, self.config.shrinkage
        total_B = sum_by_task(support, support.value.astype(np.float64) - self.mean)
        return self.mean + total_B / (support.lengths + shrinkage)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the user's mean."""
        return self.of_users(tasks)[tasks.query.task]

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) the user's mean: all items tie."""
        return np.broadcast_to(self.of_users(tasks)[:, None], (len(tasks), self.num_items))


BASELINE = Baseline(
    name=UserMean.name,
    candidates=fixed(*(UserMeanConfig(shrinkage=s) for s in (1.0, 2.0, 5.0, 10.0, 20.0))),
    fit_all=each(
        lambda search, train, config: UserMean(
            mean_value(training_rows(train)), search.num_items, config
        )
    ),
    default=lambda search: UserMeanConfig(),
)
