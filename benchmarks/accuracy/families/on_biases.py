"""What models of the residuals of ratings share: the biases that they begin with."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.accuracy.families import biases
from benchmarks.accuracy.problem import Development, Problem
from recmeta.evaluation.baselines.biases import BiasConfig, ItemMeanUserBias
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasedConfig:
    """A model of what biases leave over, and the biases' ridge weights."""

    model: Any
    """The configuration of the model."""
    biases: BiasConfig | None = None
    """None for implicit feedback."""


def on_biases(
    train: Tasks, problem: Problem, configs: Sequence[BiasedConfig]
) -> ItemMeanUserBias | None:
    """Return the biases of the training rows that the configurations share."""
    weights = configs[0].biases
    return None if weights is None else biases.fit(train, problem, weights)


def grid(
    development: Development, problem: Problem, rating: Sequence[Any], implicit: Sequence[Any]
) -> list[BiasedConfig]:
    """Return the candidates for the problem's objective; for ratings, on the biases that the judges
    choose."""
    if problem.objective == "implicit":
        return [BiasedConfig(model=config) for config in implicit]
    chosen = biases.chosen(development, problem)
    return [BiasedConfig(model=config, biases=chosen) for config in rating]
