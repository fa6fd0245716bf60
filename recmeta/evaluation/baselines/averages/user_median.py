"""The median of a user's values: the baseline to beat by absolute errors if most values are of one
level, or a few are far from all others."""

import dataclasses
from typing import ClassVar

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, each, fixed
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserMedianConfig:
    """How strongly a user's median is drawn to that of all values."""

    num_imaginary: int = 5
    """The number of imaginary ratings at the median of all training values that every user starts
    with; at least 1. If they outnumber the support, that median is predicted."""

    def __post_init__(self) -> None:
        if self.num_imaginary < 1:
            raise UserError(f"num_imaginary is {self.num_imaginary}; it must be at least 1.")


@dataclasses.dataclass(frozen=True)
class UserMedian:
    """Predicts the median of the support and of the imaginary ratings for every item.

    The constant with the least absolute error is a median; it easily beats baselines that predict
    means in MAE if values are skewed.
    """

    median: float
    """The median of all training values."""
    num_items: int
    config: UserMedianConfig
    name: ClassVar[str] = "user-median"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(
        cls, train: Tasks, num_items: int, config: UserMedianConfig | None = None
    ) -> "UserMedian":
        """Return the median of the support and query rows of the meta-training tasks."""
        median = float(np.median(scratch.thinned(training_rows(train).value)))
        return cls(median, num_items, config or UserMedianConfig())

    def of_users(self, support: Ragged) -> Float64Array:
        """Return (B,) each user's median."""
        value_N = support.value.astype(np.float64)
        sorted_N = value_N[np.lexsort((value_N, support.task))]
        below = (value_N < self.median).astype(np.float64)
        num_below_B = np.bincount(support.task, below, minlength=len(support)).astype(np.int64)
        last_B = support.lengths + self.config.num_imaginary - 1

        def at(place_B: IntArray) -> Float64Array:
            """Return the value at a place among the user's sorted ratings, imaginary ones
            included."""
            beyond_B = place_B - num_below_B
            own_B = np.where(beyond_B < 0, place_B, place_B - self.config.num_imaginary)
            is_own_B = (beyond_B < 0) | (beyond_B >= self.config.num_imaginary)
            found_B = np.full(len(support), self.median)
            found_B[is_own_B] = sorted_N[(support.offsets[:-1] + own_B)[is_own_B]]
            return found_B

        middle: Float64Array = (at(last_B // 2) + at((last_B + 1) // 2)) / 2
        return middle

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the user's median."""
        return self.of_users(tasks.support)[tasks.query.task]

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) the user's median: all items tie."""
        median_B1 = self.of_users(tasks.support)[:, None]
        return np.broadcast_to(median_B1, (len(tasks), self.num_items))


GRID = tuple(UserMedianConfig(num_imaginary=n) for n in (1, 2, 5, 10, 20, 50, 1000))

BASELINE = Baseline(
    name=UserMedian.name,
    candidates=fixed(*GRID),
    fit_all=each(lambda search, train, config: UserMedian.fit(train, search.num_items, config)),
    default=lambda search: UserMedianConfig(),
)
