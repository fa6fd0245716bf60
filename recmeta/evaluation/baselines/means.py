"""Baselines that predict an average: of everything, or of the item. They ignore the support."""

import dataclasses
from typing import ClassVar

import numpy as np

from recmeta.evaluation.baselines.rows import mean_value, sum_by_item, training_rows
from recmeta.evaluation.predictor import FloatArray
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True)
class GlobalMean:
    """Predicts the mean of all training values, whoever asks and for whatever item."""

    mean: float
    num_items: int
    name: ClassVar[str] = "global-mean"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(cls, train: Tasks, num_items: int) -> "GlobalMean":
        """Learn the mean from the support and query rows of the meta-training tasks."""
        return cls(mean_value(training_rows(train)), num_items)

    def score_query(self, tasks: Tasks) -> FloatArray:
        """Return (N,) the mean."""
        return np.full(len(tasks.query.item), self.mean)

    def score_items(self, tasks: Tasks) -> FloatArray:
        """Return (B, I) the mean: all items tie."""
        return np.broadcast_to(np.float64(self.mean), (len(tasks), self.num_items))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemMeanConfig:
    """How far an item's mean is drawn to the global mean."""

    regularisation: float = 5.0
    """Number of imaginary ratings at the global mean that every item starts with; at least 0."""


@dataclasses.dataclass(frozen=True)
class ItemMean:
    """Predicts the item's mean, drawn to the global mean mu where the item has few ratings.

    score(i) = mu + sum_{u rated i} (r_ui - mu) / (n_i + regularisation); mu for an unknown item.
    """

    item_score: FloatArray
    """(I,)"""
    name: ClassVar[str] = "item-mean"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(cls, train: Tasks, num_items: int, config: ItemMeanConfig | None = None) -> "ItemMean":
        """Learn the means from the support and query rows of the meta-training tasks."""
        config = config or ItemMeanConfig()
        rows = training_rows(train)
        mean = mean_value(rows)
        weight = np.bincount(rows.item, minlength=num_items) + config.regularisation
        total = sum_by_item(rows, rows.value.astype(np.float64) - mean, num_items)
        return cls(mean + np.divide(total, weight, out=np.zeros(num_items), where=weight > 0))

    def score_query(self, tasks: Tasks) -> FloatArray:
        """Return (N,) the mean of each row's item; within the values seen in training."""
        return self.item_score[tasks.query.item]

    def score_items(self, tasks: Tasks) -> FloatArray:
        """Return (B, I) the items' means, the same for all."""
        return np.broadcast_to(self.item_score, (len(tasks), len(self.item_score)))
