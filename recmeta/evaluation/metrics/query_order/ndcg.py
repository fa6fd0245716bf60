"""nDCG of ordering each user's own query rows, with linear gain."""

from typing import Literal

import numpy as np

from recmeta.evaluation.measuring.per_user import ratio, sum_per_user
from recmeta.evaluation.metric import OrderMetric
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged

Gain = Literal["linear", "exponential"]


def ndcg(
    predicted_N: Scores,
    query: Ragged,
    k: int,
    gain: Gain = "linear",
    lowest_value: float = 0.0,
) -> Float64Array:
    """Return (B,) the normalised discounted cumulative gain of ordering each user's own query rows.

    DCG@k = sum over places j = 1..k of gain(rel_j) / log2(1 + j), divided by the DCG@k of the best
    order (Järvelin and Kekäläinen, TOIS 2002). gain(rel) = rel if `linear`, 2^rel - 1 if
    `exponential` (Burges et al., ICML 2005). rel is the value; on a scale that goes below zero, the
    value minus `lowest_value`, so that no gain is negative. Rows with equal predictions share their
    places: each counts the mean gain of its ties (McSherry and Najork, ECIR 2008), which is the
    expectation over random orders and does not depend on the order of the rows.
    """
    relevance_N = np.maximum(query.value.astype(np.float64) - min(0.0, lowest_value), 0.0)
    task_N = query.task
    # Division by 2^(the user's highest rel) cancels in the ratio and prevents overflow.
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
    dcg_B = sum_per_user(tied_gain_N * discount_N, query)
    ideal_B = sum_per_user(gain_N[best] * discount_N, query)
    defined_B = (ideal_B > 0) & (sum_per_user(np.isnan(predicted_N), query) == 0)
    return ratio(dcg_B, ideal_B, defined_B)


def _mean_of_ties(score_N: Scores, task_N: IntArray, gain_N: Float64Array) -> Float64Array:
    """Return (N,) the mean gain of rows with the same score; rows sorted by task, then score."""
    if len(score_N) == 0:
        return gain_N
    starts_N = np.ones(len(score_N), np.bool_)
    starts_N[1:] = (np.diff(task_N) != 0) | (score_N[1:] != score_N[:-1])
    group_N = np.cumsum(starts_N) - 1
    mean: Float64Array = (np.bincount(group_N, gain_N) / np.bincount(group_N))[group_N]
    return mean


def _of(order_N: Scores, query: Ragged, k: int, lowest: float) -> Float64Array:
    return ndcg(order_N, query, k, "linear", lowest)


METRIC = OrderMetric(label="ndcg@{k}", of=_of)
