"""The interface of the predictors that the evaluation compares: meta-learners, champions and
baselines."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from recmeta.tasks.task_set import Tasks

Scores = npt.NDArray[np.floating[Any]]  # networks give float32, closed forms float64


class Predictor(Protocol):
    """Scores items for users, given a task's support, profile and cut time.

    It must not read the values of `tasks.query`, and one task's scores must not depend on
    another's. B tasks, N query rows, I items.
    """

    @property
    def name(self) -> str:
        """Its name in reports, such as `item-mean`."""
        ...

    @property
    def predicts_values(self) -> bool:
        """Whether scores are on the scale of the values, so that MAE and RMSE are meaningful."""
        ...

    def score_query(self, tasks: Tasks) -> Scores:
        """Return (N,) a score for every query row, higher is better, or NaN where it has none."""
        ...

    def score_items(self, tasks: Tasks) -> Scores:
        """Return (B, I) scores of the whole catalogue, higher is better. The array may be
        read-only."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryScores:
    """A predictor's outputs for N query rows; each metric reads the one that suits it."""

    value_N: Scores
    """The result of `Predictor.score_query`; for ratings it may be the median, which has the least
    absolute error."""
    mean_N: Scores
    """The expected values, which have the least squared error."""
    order_N: Scores
    """The values by which the rows are ordered, higher is better."""


@runtime_checkable
class HasQueryScores(Predictor, Protocol):
    """A predictor whose predictions, expected values and order differ."""

    def query_scores(self, tasks: Tasks) -> QueryScores:
        """Return the predictions, expected values and order of the query rows."""
        ...


def query_scores(predictor: Predictor, tasks: Tasks) -> QueryScores:
    """Return a predictor's outputs for the query rows: its scores for every use, unless it has
    `query_scores`."""
    if isinstance(predictor, HasQueryScores):
        return predictor.query_scores(tasks)
    score_N = predictor.score_query(tasks)
    return QueryScores(value_N=score_N, mean_N=score_N, order_N=score_N)
