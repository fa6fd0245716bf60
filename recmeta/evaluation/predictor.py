"""What the evaluation asks of what it compares: meta-learners, champions and baselines."""

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


@runtime_checkable
class RanksOtherwise(Predictor, Protocol):
    """A predictor that orders items by something else than what it predicts of them."""

    def score_and_order_query(self, tasks: Tasks) -> tuple[Scores, Scores]:
        """Return (N,) what `score_query` gives, and (N,) what the query rows are ordered by, higher
        is better."""
        ...


def scores_and_order(predictor: Predictor, tasks: Tasks) -> tuple[Scores, Scores]:
    """Return (N,) a predictor's scores of the query rows, and what it orders them by: these, unless
    it says otherwise."""
    if isinstance(predictor, RanksOtherwise):
        return predictor.score_and_order_query(tasks)
    predicted_N = predictor.score_query(tasks)
    return predicted_N, predicted_N
