"""Item-kNN on 0 and 1, or on what tuned biases leave of ratings."""

import itertools
from collections.abc import Iterator, Sequence

from benchmarks.accuracy.families.on_biases import BiasedConfig, grid, on_biases
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.search import Family
from recmeta.evaluation.baselines.item_knn import ItemKNN, ItemKNNConfig
from recmeta.tasks.task_set import Tasks

RATING_GRID = tuple(
    ItemKNNConfig(shrinkage=s, num_neighbours=k, prediction_shrinkage=p)
    for s, k, p in itertools.product((3.0, 10.0, 50.0), (5, 10, 20, 50), (0.05, 0.2))
)
IMPLICIT_GRID = tuple(
    ItemKNNConfig(shrinkage=s, num_neighbours=k)
    for s, k in itertools.product((0.0, 3.0, 10.0, 30.0), (10, 20, 50, 100, 200))
)


def _fit_all(
    train: Tasks, problem: Problem, configs: Sequence[BiasedConfig], seed: int
) -> Iterator[ItemKNN]:
    models = [config.model for config in configs]
    return ItemKNN.fit_all(train, problem.num_items, models, on_biases(train, problem, configs))


ITEM_KNN = Family(
    grid=lambda development, problem: grid(development, problem, RATING_GRID, IMPLICIT_GRID),
    fit_all=_fit_all,
)
