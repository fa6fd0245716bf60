"""Reciprocal rank of the first relevant item."""

import numpy as np

from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.metric import CatalogueMetric
from recmeta.tasks.arrays import Float64Array, IntArray


def mrr(rank_R: IntArray, relevant: Relevant, k: int) -> Float64Array:
    """Return (B,) 1 / min r if min r <= k, else 0, for a user whose relevant items have the ranks
    r."""
    first_B = np.full(relevant.num_tasks, np.inf)
    np.minimum.at(first_B, relevant.task, rank_R)
    found: Float64Array = np.where(first_B <= k, 1.0 / first_B, 0.0) + relevant.undefined_B
    return found


METRIC = CatalogueMetric(label="mrr@{k}", of=mrr)
