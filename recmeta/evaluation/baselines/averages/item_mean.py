"""The item's mean, shrunk to the global mean. It ignores the support."""

import dataclasses
from typing import ClassVar

import numpy as np

from recmeta.evaluation.baseline import Baseline, BaselineSearch, each
from recmeta.evaluation.baseline_parts.rows import mean_value, sum_by_item, training_rows
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemMeanConfig:
    """How strongly an item's mean is shrunk to the global mean."""

    regularisation: float = 5.0
    """The number of imaginary ratings at the global mean that every item starts with; at least
    0."""


@dataclasses.dataclass(frozen=True)
class ItemMean:
    """Predicts the item's mean, shrunk to the global mean mu if the item has few ratings.

    score(i) = mu + sum_{u rated i} (r_ui - mu) / (n_i + regularisation); mu for an unknown item.
    """

    item_score: Float64Array
    """(I,)"""
    name: ClassVar[str] = "item-mean"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(cls, train: Tasks, num_items: int, config: ItemMeanConfig | None = None) -> "ItemMean":
        """Return the means of the support and query rows of the meta-training tasks."""
        config = config or ItemMeanConfig()
        rows = training_rows(train)
        mean = mean_value(rows)
        weight = np.bincount(rows.item, minlength=num_items) + config.regularisation
        total = sum_by_item(rows, rows.value.astype(np.float64) - mean, num_items)
        return cls(mean + np.divide(total, weight, out=np.zeros(num_items), where=weight > 0))

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the mean of each row's item; within the values seen in training."""
        return self.item_score[tasks.query.item]

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) the items' means, the same for all users."""
        return np.broadcast_to(self.item_score, (len(tasks), len(self.item_score)))


GATE_GRID = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
PUBLISHED_GRID = (0.1, *GATE_GRID)


def _candidates(search: BaselineSearch) -> list[ItemMeanConfig]:
    grid = GATE_GRID if search.grid == "gate" else PUBLISHED_GRID
    return [ItemMeanConfig(regularisation=r) for r in grid]


BASELINE = Baseline(
    name=ItemMean.name,
    candidates=_candidates,
    fit_all=each(lambda search, train, config: ItemMean.fit(train, search.num_items, config)),
    default=lambda search: ItemMeanConfig(),
)
