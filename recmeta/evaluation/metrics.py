"""How well each user's query rows are predicted and ordered: one number per user.

Legend: B users (tasks), N query rows of all of them.

A user for whom a metric is undefined (no query row, no gain to find) or whose predictions are
incomplete (a NaN) gets NaN; what averages over users leaves such users out and reports how many
remain.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from recmeta.evaluation.predictor import BoolArray, FloatArray, IntArray, Scores
from recmeta.tasks.task_set import Ragged

Gain = Literal["linear", "exponential"]


def mae(predicted_N: Scores, query: Ragged) -> FloatArray:
    """Return (B,) the mean absolute error of each user's rows: sum |r - r'| / n."""
    return _mean_per_user(np.abs(predicted_N - query.value), query)


def rmse(predicted_N: Scores, query: Ragged) -> FloatArray:
    """Return (B,) the root mean squared error of each user's rows: sqrt(sum (r - r')^2 / n).

    Its mean over users is *not* the RMSE of all rows together: a user with many rows counts no more
    than one with few.
    """
    return np.sqrt(_mean_per_user((predicted_N - query.value) ** 2, query))


def ndcg(
    predicted_N: Scores,
    query: Ragged,
    k: int,
    gain: Gain = "linear",
    lowest_value: float = 0.0,
) -> FloatArray:
    """Return (B,) the normalised discounted cumulative gain of ordering each user's own query rows.

    DCG@k = sum over places j = 1..k of gain(rel_j) / log2(1 + j), divided by the DCG@k of the best
    order (Järvelin and Kekäläinen, TOIS 2002). gain(rel) = rel if `linear`, 2^rel - 1 if
    `exponential` (Burges et al., ICML 2005). rel is the value; on a scale that goes below zero, the
    value minus `lowest_value`, so that no gain is negative. Rows that are predicted equal share
    their places: each counts the mean gain of its ties (McSherry and Najork, ECIR 2008), which is
    the expectation over random orders and owes nothing to the order of the rows.
    """
    relevance_N = np.maximum(query.value.astype(np.float64) - min(0.0, lowest_value), 0.0)
    task_N = query.task
    # Dividing by 2^(the user's highest rel) cancels in the ratio and cannot overflow.
    highest_B = np.zeros(len(query))
    np.maximum.at(highest_B, task_N, relevance_N)
    if gain == "linear":
        gain_N = relevance_N
    else:
        gain_N = np.exp2(relevance_N - highest_B[task_N]) - np.exp2(-highest_B[task_N])
    place_N = query.position
    discount_N = np.where(place_N < k, 1.0 / np.log2(2.0 + place_N), 0.0)

    ranked = np.lexsort((-predicted_N, task_N))
    tied_gain_N = _mean_of_ties(predicted_N[ranked], task_N, gain_N[ranked])
    best = np.lexsort((-relevance_N, task_N))
    dcg_B = _sum_per_user(tied_gain_N * discount_N, query)
    ideal_B = _sum_per_user(gain_N[best] * discount_N, query)
    defined_B = (ideal_B > 0) & (_sum_per_user(np.isnan(predicted_N), query) == 0)
    return _ratio(dcg_B, ideal_B, defined_B)


def _mean_of_ties(score_N: Scores, task_N: IntArray, gain_N: FloatArray) -> FloatArray:
    """Return (N,) the mean gain of rows with the same score; rows sorted by task, then score."""
    if len(score_N) == 0:
        return gain_N
    starts_N = np.ones(len(score_N), np.bool_)
    starts_N[1:] = (np.diff(task_N) != 0) | (score_N[1:] != score_N[:-1])
    group_N = np.cumsum(starts_N) - 1
    mean: FloatArray = (np.bincount(group_N, gain_N) / np.bincount(group_N))[group_N]
    return mean


def _sum_per_user(value_N: npt.NDArray[np.generic], query: Ragged) -> FloatArray:
    return np.bincount(query.task, value_N, minlength=len(query)).astype(np.float64)


def _mean_per_user(value_N: Scores, query: Ragged) -> FloatArray:
    num_rows_B = query.lengths.astype(np.float64)
    return _ratio(_sum_per_user(value_N, query), num_rows_B, num_rows_B > 0)


def _ratio(above_B: FloatArray, below_B: FloatArray, defined_B: BoolArray) -> FloatArray:
    ratio_B = np.full(len(above_B), np.nan)
    np.divide(above_B, below_B, out=ratio_B, where=defined_B)
    return ratio_B
