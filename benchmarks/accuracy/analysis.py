"""The analysis of errors by the number of known rows of the user, and by the popularity of the
item.

Legend: U users, N query rows, I items.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.accuracy.problem import Problem
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks

SUPPORT_ROWS = "support_rows"
POPULARITY = "mae, items with "
POPULARITY_EDGES = (0, 1, 20, 100, 500)
"""The numbers of training ratings at which segments of items begin."""
SUPPORT_EDGES = (0, 1, 6, 11, 21, 41)
"""The numbers of support rows at which segments of users begin."""

MOST_LEVELS = 20
"""The most levels of a rating scale; predictions on scales with more values are not rounded."""


def training_counts(problem: Problem) -> IntArray:
    """Return (I,) the number of training rows of each item."""
    counts = [
        np.bincount(side.item, minlength=problem.num_items)
        for side in (problem.train.support, problem.train.query)
    ]
    total: IntArray = counts[0] + counts[1]
    return total


def levels(problem: Problem) -> Float64Array:
    """Return the sorted values of training rows, or none if the scale is continuous."""
    sides = (problem.train.support.value, problem.train.query.value)
    found: Float64Array = np.unique(np.concatenate(sides)).astype(np.float64)
    return found if len(found) <= MOST_LEVELS else found[:0]


def rounded(predicted_N: Scores, level_L: Float64Array) -> Float64Array:
    """Return each prediction's nearest level, the upper one of two equally near levels."""
    middles = (level_L[1:] + level_L[:-1]) / 2
    nearest_N: Float64Array = level_L[np.searchsorted(middles, predicted_N, side="right")]
    return np.where(np.isnan(predicted_N), np.nan, nearest_N)


def columns(predicted_N: Scores, tasks: Tasks, count_I: IntArray) -> dict[str, Float64Array]:
    """Return (U,) each user's MAE over the query rows of each segment of items, or NaN without such
    rows."""
    segment_N = np.searchsorted(POPULARITY_EDGES, count_I[tasks.query.item], side="right") - 1
    found = {}
    for number, name in enumerate(names_of(POPULARITY_EDGES)):
        keep = segment_N == number
        if keep.any():
            found[f"{POPULARITY}{name}"] = mae(predicted_N[keep], tasks.query.select(keep))
    return found


def names_of(edges: Sequence[int]) -> list[str]:
    """Return the names of the segments that begin at these numbers: `0`, `1–5`, … `41+`."""
    ends = [*edges[1:], None]
    return [
        f"{first}+" if end is None else str(first) if end == first + 1 else f"{first}–{end - 1}"
        for first, end in zip(edges, ends, strict=True)
    ]


def by_support(
    columns_of: Mapping[str, Float64Array], support_U: Float64Array
) -> list[tuple[str, str, Float64Array]]:
    """Return (learner, segment, (U,) MAE of the users of that segment, NaN for all others).

    Args:
        columns_of: (U,) MAE by learner.
        support_U: support rows of each user, averaged over the seeds.
    """
    segment_U = np.searchsorted(SUPPORT_EDGES, np.round(support_U), side="right") - 1
    return [
        (learner, name, np.where(segment_U == number, value_U, np.nan))
        for learner, value_U in columns_of.items()
        for number, name in enumerate(names_of(SUPPORT_EDGES))
        if (segment_U == number).any()
    ]
