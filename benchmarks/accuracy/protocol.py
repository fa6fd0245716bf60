"""The definition of a protocol: its data, its cold users, its metrics and published results."""

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
    """The differences between its protocol and the one here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """One published way to measure cold start."""

    title: str
    dataset: str
    """A name in `datasets.SOURCES`."""
    objective: Objective
    prepare: Callable[[Log], Log]
    """The preparation of the data set."""
    problem: Callable[[Log, str, int], Problem]
    """Returns what learners see, given log, training and seed."""
    cold_users: Callable[[Log, int], dict[str, Tasks]]
    """Returns the tasks of the final evaluation by state, given log and seed."""
    module: str
    """The module of the two functions, whose code decides the results."""
    trainings: tuple[str, ...]
    metrics: tuple[str, ...]
    """The metrics, of which the first is the one that claims are about."""
    rules: str
    """The protocol in words, for the report."""
    published: tuple[Published, ...] = ()
    query_metrics: Callable[[Scores, Ragged], dict[str, Float64Array]] | None = None
    """Of ratings: metrics beside the usual ones, (what the query rows are ordered by, query)."""
    list_metrics: Callable[[Predictor, Tasks, int], dict[str, Float64Array]] | None = None
    """Of implicit feedback: metrics in place of the usual ones, (predictor, tasks, items)."""
    learners: tuple[str, ...] | None = None
    """The learners that take part by default, or None for those of every protocol."""
    is_of_the_record: bool = False
    """Whether its result is kept in docs/results, for the leaderboard."""

    @property
    def primary_metric(self) -> str:
        """The metric that claims are about."""
        return self.metrics[0]

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower primary metric is better."""
        return is_error(self.primary_metric)
