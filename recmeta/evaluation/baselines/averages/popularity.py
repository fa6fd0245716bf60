"""Recommend to everybody what most people took: the baseline to beat for ranking."""

import dataclasses
from typing import ClassVar

import numpy as np

from recmeta.evaluation.baseline import Baseline, each, fixed
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True)
class Popularity:
    """Scores an item by the number of meta-training users who met it, whatever value they gave."""

    num_users: Float64Array
    """(I,)"""
    name: ClassVar[str] = "popularity"
    predicts_values: ClassVar[bool] = False

    @classmethod
    def fit(cls, train: Tasks, num_items: int) -> "Popularity":
        """Count users per item over the support and query rows of the meta-training tasks."""
        rows = training_rows(train)
        pairs = np.unique(rows.task * num_items + rows.item)
        return cls(np.bincount(pairs % num_items, minlength=num_items).astype(np.float64))

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the count of each row's item."""
        return self.num_users[tasks.query.item]

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) the items' counts, the same for all."""
        return np.broadcast_to(self.num_users, (len(tasks), len(self.num_users)))


BASELINE = Baseline(
    name=Popularity.name,
    candidates=fixed(None),
    fit_all=each(lambda search, train, _: Popularity.fit(train, search.num_items)),
    objectives=("rating", "implicit"),
    known_items_only=True,
)
