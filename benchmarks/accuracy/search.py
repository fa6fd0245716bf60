"""The search for hyperparameters on the development judges, by the same rule for every baseline.

Each baseline has at most `BUDGET` candidates; each is fitted to the development rows and measured
on the judges' queries. The best candidate is fitted again, to all warm rows.
"""

import dataclasses
from typing import Any

from benchmarks.accuracy.problem import Problem
from recmeta.evaluation.baseline import RANKING_K, Baseline, BaselineSearch, flat
from recmeta.evaluation.predictor import Predictor
from recmeta.tasks.task_set import Objective

BUDGET = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The result of a search."""

    predictor: Predictor
    """The predictor, fitted to all warm rows."""
    config: dict[str, Any]
    """Its hyperparameters."""
    num_trials: int
    judged_by: str
    """The measure of the comparison, and the tasks."""
    loss: float | None
    """The loss of the best candidate on the judges, or None if there was nothing to choose."""


def choose(baseline: Baseline, problem: Problem, state: str, seed: int) -> Chosen:
    """Return a baseline's best candidate for cold users in a state, fitted to all warm rows."""
    search = search_of(problem, state, seed)
    assert search.is_judged, "nobody to choose by"
    found = search.chosen(baseline)
    assert found.num_trials <= BUDGET
    return Chosen(
        predictor=search.fitted(baseline),
        config=flat(found.config),
        num_trials=found.num_trials,
        judged_by=f"{measure_of(problem.objective)} of {len(search.judges)} development tasks",
        loss=found.loss,
    )


def search_of(problem: Problem, state: str, seed: int) -> BaselineSearch:
    """Return the search among the published candidates for cold users in a state."""
    development = problem.development[state]
    return BaselineSearch(
        objective=problem.objective,
        value_range=problem.value_range,
        num_items=problem.num_items,
        train=development.train,
        judges=development.judges,
        everybody=problem.train,
        items=problem.items,
        grid="published",
        seed=seed,
    )


def measure_of(objective: Objective) -> str:
    """Return the measure on the judges, lower is better."""
    return "MAE" if objective == "rating" else f"1 - nDCG@{RANKING_K}"
