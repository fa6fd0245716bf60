"""The nDCG@10 of held-out users during training, for early stopping.

Legend: B users, M candidate items, R relevant items of all users.
"""

import numpy as np
import torch

from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.batch import Support
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks

K = 10
PAIRS_AT_ONCE = 2**18
"""The number of pairs of user and item that are scored at once: a network holds some hundred
numbers for each."""


@torch.no_grad()
def ndcg(model: Model, params: Params, tasks: Tasks, most_items: int) -> Float64Array:
    """Return (B,) nDCG@10 of the query items among the items that are not in the support; ties
    count against them, and a user without query items has 0.

    All items are read as of the latest time of the tasks, so that one pass over the catalogue
    serves all users.

    Args:
        most_items: a larger catalogue is represented by a fixed sample of this many items, and by
            the query items of these users.
    """
    num_items = model.catalogue.num_items
    candidates_M = _candidates(tasks, num_items, most_items)
    catalogue = model.catalogue
    known = catalogue.rows(model.known_rows(tasks), tasks)
    state = model.learner.adapt(params, Support(catalogue.users(tasks), known))
    scores_BM = np.empty((len(tasks), len(candidates_M)))
    at_once = max(1, PAIRS_AT_ONCE // len(tasks))
    latest = int(tasks.snapshot.max()), int(tasks.cut_time.max())
    for first in range(0, len(candidates_M), at_once):
        block = slice(first, first + at_once)
        rows = model.learner.prepare(params, catalogue.item_rows(candidates_M[block], *latest))
        ranked_Bm = model.learner.predict(params, state, rows).ranked_by_BR
        scores_BM[:, block] = ranked_Bm.cpu().double().numpy()
    support, query = tasks.support, tasks.query
    known_N = support.task * num_items + support.item
    relevant_R = np.setdiff1d(query.task * num_items + query.item, known_N)
    user_R, place_R = relevant_R // num_items, candidates_M.searchsorted(relevant_R % num_items)
    is_candidate_N = np.isin(support.item, candidates_M)
    place_N = candidates_M.searchsorted(support.item[is_candidate_N])
    scores_BM[support.task[is_candidate_N], place_N] = -np.inf
    score_R = scores_BM[user_R, place_R]
    scores_BM[user_R, place_R] = -np.inf
    best = max(scores_BM.shape[1] - K, 0)
    others_BK = np.partition(scores_BM, best, axis=1)[:, best:]
    order_R = np.lexsort((-score_R, user_R))
    num_relevant_B = np.bincount(user_R, minlength=len(tasks))
    among_own_R = np.empty(len(user_R), np.int64)
    first_B = np.cumsum(num_relevant_B) - num_relevant_B
    among_own_R[order_R] = np.arange(len(user_R)) - first_B[user_R[order_R]]
    rank_R = 1 + among_own_R + (others_BK[user_R] >= score_R[:, None]).sum(1)
    gain_R = np.where(rank_R <= K, 1 / np.log2(1.0 + rank_R), 0.0)
    ideal = np.cumsum(1 / np.log2(2.0 + np.arange(K)))
    most_B = ideal[np.clip(num_relevant_B, 1, K) - 1]
    return np.asarray(np.bincount(user_R, gain_R, minlength=len(tasks)) / most_B)


def _candidates(tasks: Tasks, num_items: int, most_items: int) -> IntArray:
    """Return the distinct items to rank, sorted."""
    if num_items <= most_items:
        return np.arange(num_items)
    sample = np.random.default_rng(0).permutation(num_items)[:most_items]
    return np.union1d(sample, tasks.query.item).astype(np.int64)
