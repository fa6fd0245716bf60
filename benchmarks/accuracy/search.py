"""Hyperparameters, chosen on the development judges, by the same rule for every baseline.

Each family has a fixed grid of at most `BUDGET` candidates; each is fitted to the development rows
and measured on the judges' queries. What wins is fitted again, to all warm rows.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.accuracy.problem import Development, Problem
from recmeta.evaluation.metrics import mae
from recmeta.evaluation.predictor import Predictor
from recmeta.evaluation.ranking import ranking_of
from recmeta.tasks.task_set import Objective, Tasks

BUDGET = 25
RANKING_K = 10

Config = Any
"""A family's own frozen dataclass."""
FitAll = Callable[[Tasks, Problem, Sequence[Config], int], Iterator[Predictor]]
"""Fits one predictor after the other to the same rows, so that they can share work: (training
tasks, problem, configurations, seed)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of baseline and the candidates that are tried of it."""

    grid: Callable[[Development, Problem], Sequence[Config]]
    """The candidates; they may follow from what a simpler family chooses on the same judges."""
    fit_all: FitAll


def fixed(*configs: Config) -> Callable[[Development, Problem], Sequence[Config]]:
    """Return a grid that follows from nothing. A single candidate is taken without a search."""
    return lambda development, problem: configs


def each(fit: Callable[[Tasks, Problem, Any], Predictor]) -> FitAll:
    """Return the `fit_all` of a family whose candidates share no work and draw nothing."""

    def fit_all(
        train: Tasks, problem: Problem, configs: Sequence[Config], seed: int
    ) -> Iterator[Predictor]:
        return (fit(train, problem, config) for config in configs)

    return fit_all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a search ended with."""

    predictor: Predictor
    """Fitted to all warm rows."""
    config: dict[str, Any]
    """Its hyperparameters."""
    num_trials: int
    judged_by: str
    """What was compared, and on whom."""
    loss: float | None
    """Of the winner on the judges; None where there was nothing to choose."""


def choose(family: Family, problem: Problem, state: str, seed: int) -> Chosen:
    """Return the family's best candidate for cold users in a state, fitted to all warm rows."""
    development = problem.development[state]
    grid = list(family.grid(development, problem))
    assert 1 <= len(grid) <= BUDGET
    assert len(development.judges) > 0, "nobody to choose by"
    losses: list[float] = []
    if len(grid) > 1:
        for predictor in family.fit_all(development.train, problem, grid, seed):
            losses.append(judged(predictor, development.judges, problem.objective))
    best = grid[int(np.argmin(losses))] if losses else grid[0]
    final = next(family.fit_all(problem.train, problem, [best], seed))
    return Chosen(
        predictor=final,
        config=_flat(best),
        num_trials=len(losses),
        judged_by=f"{measure_of(problem.objective)} of {len(development.judges)} development tasks",
        loss=min(losses) if losses else None,
    )


def _flat(config: Config, prefix: str = "") -> dict[str, Any]:
    """Return a configuration's values by name, those of configurations inside it by dotted name."""
    if not dataclasses.is_dataclass(config):
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_inner = dataclasses.is_dataclass(value)
        found |= _flat(value, f"{field.name}.") if is_inner else {prefix + field.name: value}
    return found


def measure_of(objective: Objective) -> str:
    """Return what the judges measure, lower is better."""
    return "MAE" if objective == "rating" else f"1 - nDCG@{RANKING_K}"


def judged(predictor: Predictor, judges: Tasks, objective: Objective) -> float:
    """Return the mean over the judges of MAE, or of 1 - nDCG@10 over the whole catalogue."""
    if objective == "rating":
        return float(np.nanmean(mae(predictor.score_query(judges), judges.query)))
    return 1.0 - float(np.nanmean(ranking_of(predictor, judges, RANKING_K)[f"ndcg@{RANKING_K}"]))
