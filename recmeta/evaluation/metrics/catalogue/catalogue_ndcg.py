"""nDCG of a list, items being relevant or not."""

import numpy as np

from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.metric import CatalogueMetric
from recmeta.tasks.arrays import Float64Array, IntArray


def catalogue_ndcg(rank_R: IntArray, relevant: Relevant, k: int) -> Float64Array:
    """Return (B,) the sum over r <= k of 1 / log2(1 + r), over the same for the ranks 1..min(n, k),
    for a user whose n relevant items have the ranks r."""
    gain_R = (rank_R <= k) / np.log2(1.0 + rank_R)
    dcg_B = np.bincount(relevant.task, gain_R, minlength=relevant.num_tasks)
    ideal = np.concatenate([[np.nan], np.cumsum(1.0 / np.log2(2.0 + np.arange(k)))])
    found: Float64Array = dcg_B / ideal[np.minimum(relevant.count_B, k)]
    return found


METRIC = CatalogueMetric(label="ndcg@{k}", of=catalogue_ndcg)
