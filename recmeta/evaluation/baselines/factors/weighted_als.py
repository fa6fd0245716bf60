"""Weighted matrix factorisation of implicit feedback, new users folded in.

Legend: B users, N query rows, I items, F factors.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from recmeta.evaluation.baseline import Baseline, BaselineSearch, fixed
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, factorise_weighted, fold_in
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks

REGULARISATION_PATH = (30.0, 10.0, 3.0, 1.0)
CONFIDENCES = (10.0,)
SIZES = (64, 256)
FOLD_IN_RATIOS = (1.0, 3.0)
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
        """Return the items' vectors, fitted to the support and query rows of the meta-training
        tasks."""
        return cls(factorise_weighted(training_rows(train), num_items, config, seed), config)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) a score for every query row."""
        parts = [
            self.score_items(some)[some.query.task, some.query.item]
            for some in tasks.batches(USERS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) scores of the whole catalogue."""
        ridge = self.config.regularisation * self.config.fold_in_ratio
        user_BF = fold_in(tasks.support, self.item_IF, self.config, ridge)
        return np.asarray((user_BF @ self.item_IF.T).double().numpy())


def _candidates_of(*configs: WeightedALSConfig) -> list[WeightedALSConfig]:
    """Return the configurations, each with every ridge weight of a new user."""
    return [
        replace(config, fold_in_ratio=ratio)
        for config, ratio in itertools.product(configs, FOLD_IN_RATIOS)
    ]


def _other_confidences(_: BaselineSearch, best: WeightedALSConfig) -> list[WeightedALSConfig]:
    return _candidates_of(*(replace(best, confidence=c) for c in CONFIDENCES))


def _other_sizes(_: BaselineSearch, best: WeightedALSConfig) -> list[WeightedALSConfig]:
    return _candidates_of(*(replace(best, num_factors=size) for size in SIZES))


def _fit_all(
    search: BaselineSearch, train: Tasks, configs: Sequence[WeightedALSConfig]
) -> Iterator[WeightedALS]:
    """Yield a fit per configuration. Configurations that differ only in how users are folded in
    share the factorisation."""
    last: WeightedALS | None = None
    for config in configs:
        ratio = config.fold_in_ratio
        if last is None or replace(last.config, fold_in_ratio=ratio) != config:
            last = WeightedALS.fit(train, search.num_items, config, search.seed)
        last = WeightedALS(last.item_IF, config)
        yield last


BASELINE = Baseline(
    name=WeightedALS.name,
    candidates=fixed(
        *_candidates_of(*(WeightedALSConfig(regularisation=r) for r in REGULARISATION_PATH))
    ),
    # One parameter after the other: all combinations would be too many.
    refinements=(_other_confidences, _other_sizes),
    fit_all=_fit_all,
    default=lambda search: WeightedALSConfig(),
    objectives=("implicit",),
    known_items_only=True,
)


def tune_weighted_als(
    train: Tasks, dev: Tasks, num_items: int, seed: int = 0, everybody: Tasks | None = None
) -> WeightedALS:
    """Return the factorisation whose hyperparameters rank the development queries best.

    Args:
        everybody: the users to whom it is fitted again once the hyperparameters are chosen. If
            None, it is not fitted again.
    """
    search = BaselineSearch(
        objective="implicit",
        value_range=(1.0, 1.0),
        num_items=num_items,
        train=train,
        judges=dev,
        everybody=everybody,
        seed=seed,
    )
    found = search.fitted(BASELINE)
    assert isinstance(found, WeightedALS)
    return found
