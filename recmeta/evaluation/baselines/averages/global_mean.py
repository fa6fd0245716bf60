"""The mean of all values."""

import dataclasses
from typing import ClassVar

import numpy as np

from recmeta.evaluation.baseline import Baseline, each, fixed
from recmeta.evaluation.baseline_parts.rows import mean_value, training_rows
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True)
class GlobalMean:
    """Predicts the mean of all training values for every user and item."""

    mean: float
    num_items: int
    name: ClassVar[str] = "global-mean"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(cls, train: Tasks, num_items: int) -> "GlobalMean":
        """Return the mean of the support and query rows of the meta-training tasks."""
        return cls(mean_value(training_rows(train)), num_items)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the mean."""
        return np.full(len(tasks.query.item), self.mean)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) the mean: all items tie."""
        return np.broadcast_to(np.float64(self.mean), (len(tasks), self.num_items))


BASELINE = Baseline(
    name=GlobalMean.name,
    candidates=fixed(None),
    fit_all=each(lambda search, train, _: GlobalMean.fit(train, search.num_items)),
)
