"""Item mean plus user bias, both regularised: the baseline that published learners lose to."""

import functools
import itertools

from benchmarks.accuracy.problem import Development, Problem
from benchmarks.accuracy.search import Family, each, fixed, judged
from recmeta.evaluation.baselines.biases import BiasConfig, ItemMeanUserBias
from recmeta.tasks.task_set import Tasks

GRID = tuple(
    BiasConfig(item_regularisation=item, user_regularisation=user)
    for item, user in itertools.product((0.3, 1.0, 3.0, 8.0), (0.5, 1.0, 2.0, 5.0, 10.0, 20.0))
)


def fit(train: Tasks, problem: Problem, config: BiasConfig) -> ItemMeanUserBias:
    """Return the biases of the training rows."""
    return ItemMeanUserBias.fit(train, problem.num_items, problem.value_range, config)


def chosen(development: Development, problem: Problem) -> BiasConfig:
    """Return the ridge weights that the judges choose; families that begin with biases take
    them."""
    judge = functools.partial(judged, judges=development.judges, objective=problem.objective)
    return min(GRID, key=lambda config: judge(fit(development.train, problem, config)))


ITEM_MEAN_USER_BIAS = Family(grid=fixed(*GRID), fit_all=each(fit))
