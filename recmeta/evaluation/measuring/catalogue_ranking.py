"""The ranks of the items that a user liked among others: the whole catalogue, or a sample of it.

Legend: B users (tasks), I items, R relevant items of all users, M other candidates per user, K
    places of a list.

A user's candidates are the items not in the support. Relevant are the candidates that the query
values at `relevant_from` or more; every other candidate counts as not relevant, even if the user
never met it, so that a metric of these ranks is a lower bound. Ties are broken against the relevant
item: a score that it shares with another candidate puts it behind. So a predictor that scores all
items alike ranks nothing high.

A user with no relevant item, or with a score that is not finite, has no metric.
"""

import dataclasses
import functools

import numpy as np

from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True)
class Relevant:
    """The distinct relevant items of B users, sorted by user, then item."""

    num_tasks: int
    task: IntArray
    """(R,) the user of each item."""
    item: IntArray
    """(R,) item numbers."""

    @classmethod
    def of(cls, tasks: Tasks, relevant_from: float, num_items: int) -> "Relevant":
        """Return the query items valued at `relevant_from` or more that the support lacks."""
        support, query = tasks.support, tasks.query
        liked = query.value >= relevant_from
        pairs = np.unique(query.task[liked] * num_items + query.item[liked])
        pairs = np.setdiff1d(pairs, support.task * num_items + support.item, assume_unique=False)
        return cls(len(tasks), pairs // num_items, pairs % num_items)

    @functools.cached_property
    def count_B(self) -> IntArray:
        """(B,) the number of relevant items of each user."""
        return np.bincount(self.task, minlength=self.num_tasks)

    @property
    def undefined_B(self) -> Float64Array:
        """(B,) NaN for a user without relevant items, 0 for all others, to be added to a metric."""
        undefined: Float64Array = np.where(self.count_B > 0, 0.0, np.nan)
        return undefined

    def hits(self, rank_R: IntArray, k: int) -> Float64Array:
        """Return (B,) the number of each user's relevant items with a rank of at most k."""
        is_hit_R = (rank_R <= k).astype(np.float64)
        return np.bincount(self.task, is_hit_R, minlength=self.num_tasks).astype(np.float64)


def candidate_scores(scores_BI: Scores, tasks: Tasks) -> tuple[Float64Array, BoolArray]:
    """Return a copy of the scores with support items at -inf, and (B,) whether each user's scores
    are finite.

    A user with a NaN or an infinite score has all scores set to 0.
    """
    complete_B: BoolArray = np.all(np.isfinite(scores_BI), axis=1)
    candidates_BI = np.where(complete_B[:, None], scores_BI, 0.0).astype(np.float64, copy=False)
    candidates_BI[tasks.support.task, tasks.support.item] = -np.inf
    return candidates_BI, complete_B


def ranks_in_catalogue(scores_BI: Float64Array, relevant: Relevant, k: int) -> IntArray:
    """Return (R,) each relevant item's rank among all candidates, from 1; exact up to k."""
    relevant_R = scores_BI[relevant.task, relevant.item]
    others_BI = scores_BI.copy()
    others_BI[relevant.task, relevant.item] = -np.inf
    # The best k others decide every rank up to k, so that there is no need to sort the catalogue.
    k = min(k, others_BI.shape[1])
    others_BI.partition(
        others_BI.shape[1] - k, axis=1
    )  # in place, since a copy would take half of the time
    best_BK = others_BI[:, -k:]
    return _ranks(relevant_R, relevant, best_BK)


def ranks_in_sample(
    scores_BI: Float64Array, relevant: Relevant, negatives_BM: IntArray
) -> IntArray:
    """Return (R,) each relevant item's rank among the user's relevant and sampled items, from 1."""
    relevant_R = scores_BI[relevant.task, relevant.item]
    others_BM = np.take_along_axis(scores_BI, np.maximum(negatives_BM, 0), axis=1)
    return _ranks(relevant_R, relevant, np.where(negatives_BM >= 0, others_BM, -np.inf))


def sample_negatives(
    tasks: Tasks, num_items: int, num_negatives: int, generator: np.random.Generator
) -> IntArray:
    """Return (B, M) items drawn uniformly, without replacement, from those in neither support nor
    query.

    Rows with fewer items are padded with -1. Ranking among a sample is quick and customary, but may
    order two predictors differently from the whole catalogue (Krichene and Rendle, KDD 2020): read
    it together with the full ranking. Users draw in order, so that the sample does not depend on
    the size of batches.
    """
    keys_BI = generator.random((len(tasks), num_items))
    for side in (tasks.support, tasks.query):
        keys_BI[side.task, side.item] = -1.0
    num_negatives = min(num_negatives, num_items)
    kth = min(num_negatives, num_items - 1)
    drawn_BM = np.argpartition(-keys_BI, kth, axis=1)[:, :num_negatives]
    return np.where(np.take_along_axis(keys_BI, drawn_BM, axis=1) >= 0, drawn_BM, -1)


def top_items(scores_BI: Float64Array, k: int) -> IntArray:
    """Return (B, K) the best items, best first; of equals, the lower item number comes first.

    Excluded items (-inf) come last, and are included if there are fewer than k candidates.
    """
    k = min(k, scores_BI.shape[1])
    kth_B1 = np.partition(scores_BI, scores_BI.shape[1] - k, axis=1)[:, [-k]]
    chosen_BI = scores_BI >= kth_B1
    # Most users have exactly k such items; for others, the last of those that tie with the k-th are
    # dropped.
    users = np.flatnonzero(np.count_nonzero(chosen_BI, axis=1) > k)
    if len(users):
        above_uI = scores_BI[users] > kth_B1[users]
        tied_uI = scores_BI[users] == kth_B1[users]
        room_u1 = k - above_uI.sum(axis=1, keepdims=True)
        chosen_BI[users] = above_uI | (tied_uI & (np.cumsum(tied_uI, axis=1) <= room_u1))
    items_BK = np.nonzero(chosen_BI)[1].reshape(len(scores_BI), k)
    order = np.argsort(-np.take_along_axis(scores_BI, items_BK, axis=1), axis=1, kind="stable")
    return np.take_along_axis(items_BK, order, axis=1)


def _ranks(relevant_R: Float64Array, relevant: Relevant, others_BM: Float64Array) -> IntArray:
    ahead_R = (others_BM[relevant.task] >= relevant_R[:, None]).sum(axis=1)
    order = np.lexsort((-relevant_R, relevant.task))
    start_B = np.searchsorted(relevant.task, np.arange(relevant.num_tasks))
    place_R = np.empty(len(order), np.int64)
    place_R[order] = np.arange(len(order)) - start_B[relevant.task]
    ranks: IntArray = ahead_R + place_R + 1
    return ranks
