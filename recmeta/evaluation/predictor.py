"""What the evaluation asks of what it compares: meta-learners, champions and baselines."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from recmeta.tasks.task_set import Tasks

Scores = npt.NDArray[np.floating[Any]]  # a network's are float32, a closed form's float64


class Predictor(Protocol):
    """Scores items for users of whom it knows a task's support, profile and cut time.

    It must not look at the values of `tasks.query`, nor may one task's scores depend on another's.
    B tasks, N query rows, I items.
    """

    @property
    def name(self) -> str:
        """The name it goes by in reports, such as `item-mean`."""
        ...

    @property
    def predicts_values(self) -> bool:
        """Whether scores are on the scale of the values, so that MAE and RMSE mean something."""
        ...

    def score_query(self, tasks: Tasks) -> Scores:
        """Return (N,) a score for every query row, higher is better; NaN where it gives none."""
        ...

    def score_items(self, tasks: Tasks) -> Scores:
        """Return (B, I) scores of the whole catalogue, higher is better. May be read-only."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryScores:
    """What a predictor says of N query rows; each use reads its own functional."""

    value_N: Scores
    """As `Predictor.score_query` gives them; of ratings it may be the median, which has the least
    absolute error."""
    mean_N: Scores
    """The expected values, which have the least squared error."""
    order_N: Scores
    """What the rows are ordered by, higher is better."""


@runtime_checkable
class SaysMore(Predictor, Protocol):
    """A predictor whose predictions, expected values and order are not the same numbers."""

    def query_scores(self, tasks: Tasks) -> QueryScores:
        """Return all three of the query rows."""
        ...


def query_scores(predictor: Predictor, tasks: Tasks) -> QueryScores:
    """Return what a predictor says of the query rows: its scores for every use, unless it says
    otherwise."""
    if isinstance(predictor, SaysMore):
        return predictor.query_scores(tasks)
    score_N = predictor.score_query(tasks)
    return QueryScores(value_N=score_N, mean_N=score_N, order_N=score_N)
