"""The definition of a metric: its name, which way is better, and what it reads.

Legend: B users (tasks), N query rows of all of them, R relevant items of all of them, I items.

A metric is NaN for a user for whom it is undefined (no query rows, or no gain to find) or whose
predictions are incomplete (a NaN). Averages over users leave such users out, and report how many
remain.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from recmeta.errors import UserError
from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.predictor import Scores
from recmeta.plugins import Registry
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Objective, Ragged

Counts = npt.NDArray[np.integer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """The base of the four kinds of metric, which differ in what they read.

    A file in `recmeta.evaluation.metrics` ends with its own, as `METRIC`; an entry point of the
    group `recmeta.metrics` leads to one. Its functions have names, since workers of an evaluation
    get them by pickle.
    """

    label: str
    """Its name in reports, with `{k}` for the cut-off if it has one, as in `ndcg@{k}`."""
    lower_is_better: bool = False
    objectives: tuple[Objective, ...] = ("rating", "implicit")
    """The kinds of feedback for which it is meaningful."""

    def names(self, ks: Sequence[int]) -> list[str]:
        """Return its names in reports at these cut-offs."""
        return list(dict.fromkeys(self.label.format(k=k) for k in ks))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ErrorMetric(Metric):
    """A metric of the predicted values of query rows, for predictors that predict values."""

    of: Callable[[Scores, Ragged], Float64Array]
    """Returns the metric (B,), given predicted values (N,) and the query rows."""
    reads: Literal["value", "mean"] = "value"
    """The field of `QueryScores` that minimises it: a squared error is least for expected
    values."""
    lower_is_better: bool = True
    objectives: tuple[Objective, ...] = ("rating",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderMetric(Metric):
    """A metric of the order of a user's own query rows."""

    of: Callable[[Scores, Ragged, int, float], Float64Array]
    """Returns the metric (B,), given the values (N,) by which the rows are ordered, higher first,
    the query rows, the cut-off and the lowest value of the scale."""
    objectives: tuple[Objective, ...] = ("rating",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogueMetric(Metric):
    """A metric of the ranks of relevant items: among all candidates of the catalogue, as `full_…`,
    and among the relevant and some sampled items, as `sampled_…`."""

    of: Callable[[IntArray, Relevant, int], Float64Array]
    """Returns the metric (B,), given ranks (R,) from 1, the relevant items that they belong to, and
    the cut-off, up to which ranks are exact."""

    def names(self, ks: Sequence[int]) -> list[str]:
        """Return its names in reports at these cut-offs."""
        plain = super().names(ks)
        return [f"full_{name}" for name in plain] + [f"sampled_{name}" for name in plain]


@dataclasses.dataclass(frozen=True)
class TopLists:
    """The lists of U users, of at most K items each."""

    item_UK: IntArray
    """Item numbers, best first; -1 where a list is shorter."""
    num_items: int
    """I"""
    num_users_I: Counts | None
    """(I,) the number of users who had met each item, or None if it is not known."""

    def __len__(self) -> int:
        return len(self.item_UK)

    @functools.cached_property
    def listed_I(self) -> IntArray:
        """(I,) the number of lists that each item is in."""
        return np.bincount(self.item_UK[self.item_UK >= 0], minlength=self.num_items)

    def first(self, k: int) -> "TopLists":
        """Return the lists, cut off after k items."""
        return dataclasses.replace(self, item_UK=self.item_UK[:, :k])

    def take(self, users: IntArray) -> "TopLists":
        """Return the lists of some users."""
        return dataclasses.replace(self, item_UK=self.item_UK[users])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExposureMetric(Metric):
    """A metric of the items that the lists of all users show; it belongs to no single user."""

    of: Callable[[TopLists], float | None]
    """Returns a number, NaN if the lists are empty, or None if it cannot be computed."""

    def names(self, ks: Sequence[int]) -> list[str]:
        """Return its names in reports at these cut-offs."""
        return [f"full_{name}" for name in super().names(ks)]


METRICS: Registry[Metric] = Registry(
    "metric", package="recmeta.evaluation.metrics", attribute="METRIC"
)
"""Every metric. A file in the folder names its own `METRIC`."""


def metric(name: str) -> Metric:
    """Return the metric of a name, or at a path `package.module:Object`.

    Raises:
        UserError: if the name leads to no metric.
    """
    found = METRICS[name]
    if not isinstance(found, (ErrorMetric, OrderMetric, CatalogueMetric, ExposureMetric)):
        raise UserError(
            f"the metric {name!r} is {found!r}; it must be an ErrorMetric, OrderMetric, "
            "CatalogueMetric or ExposureMetric of recmeta.evaluation.metric."
        )
    return found
