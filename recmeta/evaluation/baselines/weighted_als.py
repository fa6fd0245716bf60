"""Weighted matrix factorisation of implicit feedback, new users folded in.

Legend: B users, N query rows, I items, F factors.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from recmeta.evaluation.baselines.rows import training_rows
from recmeta.evaluation.predictor import FloatArray
from recmeta.evaluation.ranking import ranking_of
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, factorise_weighted, fold_in
from recmeta.tasks.task_set import Tasks

REGULARISATION_PATH = (30.0, 10.0, 3.0, 1.0)
CONFIDENCES = (10.0,)
SIZES = (64, 256)
FOLD_IN_RATIOS = (1.0, 3.0)
K = 10
USERS_AT_ONCE = 512


@dataclass(frozen=True)
class WeightedALS:
    """Scores p_u . q_i; a new user's p_u is one exact alternation, given the support."""

    item_IF: torch.Tensor
    config: WeightedALSConfig
    name: ClassVar[str] = "weighted-als"
    predicts_values: ClassVar[bool] = False

    @classmethod
    def fit(
        cls, train: Tasks, num_items: int, config: WeightedALSConfig, seed: int
    ) -> "WeightedALS":
        """Learn the items' vectors from the support and query rows of the meta-training tasks."""
        return cls(factorise_weighted(training_rows(train), num_items, config, seed), config)

    def score_query(self, tasks: Tasks) -> FloatArray:
        """Return (N,) a score for every query row."""
        parts = [
            self.score_items(some)[some.query.task, some.query.item]
            for some in tasks.batches(USERS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def score_items(self, tasks: Tasks) -> FloatArray:
        """Return (B, I) scores of the whole catalogue."""
        ridge = self.config.regularisation * self.config.fold_in_ratio
        user_BF = fold_in(tasks.support, self.item_IF, self.config, ridge)
        return np.asarray((user_BF @ self.item_IF.T).double().numpy())


def tune_weighted_als(
    train: Tasks, dev: Tasks, num_items: int, seed: int = 0, everybody: Tasks | None = None
) -> WeightedALS:
    """Return the factorisation whose hyperparameters rank the development queries best, by nDCG@10
    over the whole catalogue.

    They are chosen one after the other: the ridge weight, the confidence, the number of factors; a
    new user's ridge weight with each.

    Args:
        everybody: whom it is fitted to again once the hyperparameters are chosen; None: not again.
    """
    if len(dev.query.item) == 0:
        rows = train if everybody is None else everybody
        return WeightedALS.fit(rows, num_items, WeightedALSConfig(), seed)

    def tried(configs: Iterator[WeightedALSConfig]) -> Iterator[tuple[float, WeightedALS]]:
        for config in configs:
            fit = WeightedALS.fit(train, num_items, config, seed)
            for ratio in FOLD_IN_RATIOS:
                asked = replace(config, fold_in_ratio=ratio)
                candidate = WeightedALS(fit.item_IF, asked)
                yield _ndcg(candidate, dev), candidate

    def best(found: Iterator[tuple[float, WeightedALS]]) -> tuple[float, WeightedALS]:
        return max(found, key=lambda one: one[0])

    def better(
        known: tuple[float, WeightedALS], *configs: WeightedALSConfig
    ) -> tuple[float, WeightedALS]:
        return max(known, best(tried(iter(configs))), key=lambda one: one[0])

    first = WeightedALSConfig()
    chosen = best(tried(replace(first, regularisation=r) for r in REGULARISATION_PATH))
    known = chosen[1].config
    chosen = better(chosen, *(replace(known, confidence=c) for c in CONFIDENCES))
    known = chosen[1].config
    best_fit = better(chosen, *(replace(known, num_factors=size) for size in SIZES))[1]
    if everybody is None:
        return best_fit
    return WeightedALS.fit(everybody, num_items, best_fit.config, seed)


def _ndcg(model: WeightedALS, dev: Tasks) -> float:
    """Return the mean nDCG@10 of the tasks."""
    return float(np.nanmean(ranking_of(model, dev, K)[f"ndcg@{K}"]))
