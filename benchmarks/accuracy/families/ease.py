"""EASE on 0 and 1, or on what tuned biases leave of ratings."""

import itertools
from collections.abc import Iterator, Sequence

from benchmarks.accuracy.families.on_biases import BiasedConfig, grid, on_biases
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.search import Family
from recmeta.evaluation.baselines.ease import Ease, EaseConfig
from recmeta.tasks.task_set import Tasks

RATING_GRID = tuple(
    EaseConfig(regularisation=ridge, scale=scale)
    for ridge, scale in itertools.product(
        (100.0, 300.0, 1000.0, 3000.0, 10000.0), (1.0, 2.0, 4.0, 8.0, 16.0)
    )
)
IMPLICIT_GRID = tuple(
    EaseConfig(regularisation=r) for r in (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
)


def _fit_all(
    train: Tasks, problem: Problem, configs: Sequence[BiasedConfig], seed: int
) -> Iterator[Ease]:
    models = [config.model for config in configs]
    return Ease.fit_all(train, problem.num_items, models, on_biases(train, problem, configs))


EASE = Family(
    grid=lambda development, problem: grid(development, problem, RATING_GRID, IMPLICIT_GRID),
    fit_all=_fit_all,
)
