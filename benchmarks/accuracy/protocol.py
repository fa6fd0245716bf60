"""What a protocol is: data, who is cold, what is measured, what has been published."""

import dataclasses
from collections.abc import Callable

from benchmarks.accuracy.direction import is_error
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Problem
from recmeta.evaluation.predictor import Predictor, Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Objective, Ragged, Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A number from a paper, quoted."""

    learner: str
    state: str
    metric: str
    value: float
    source: str
    difference: str
    """In what its protocol differs from the one here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """One published way to measure cold start."""

    title: str
    dataset: str
    """A name in `datasets.SOURCES`."""
    objective: Objective
    prepare: Callable[[Log], Log]
    """What is done to the data set first."""
    problem: Callable[[Log, str, int], Problem]
    """What learners see: (log, training, seed)."""
    cold_users: Callable[[Log, int], dict[str, Tasks]]
    """The final evaluation by state: (log, seed)."""
    module: str
    """Of the two functions: their code decides the results."""
    trainings: tuple[str, ...]
    metrics: tuple[str, ...]
    """The first is the one that claims are about."""
    rules: str
    """The protocol in words, for the report."""
    published: tuple[Published, ...] = ()
    query_metrics: Callable[[Scores, Ragged], dict[str, Float64Array]] | None = None
    """Of ratings: metrics beside the usual ones, (what the query rows are ordered by, query)."""
    list_metrics: Callable[[Predictor, Tasks, int], dict[str, Float64Array]] | None = None
    """Of implicit feedback: metrics in place of the usual ones, (predictor, tasks, items)."""
    learners: tuple[str, ...] | None = None
    """Who takes part where the user names nobody; None: those that every protocol has."""
    is_of_the_record: bool = False
    """Whether its result is kept in docs/results, for the leaderboard."""

    @property
    def primary_metric(self) -> str:
        """The metric that claims are about."""
        return self.metrics[0]

    @property
    def lower_is_better(self) -> bool:
        """Of the primary metric."""
        return is_error(self.primary_metric)
