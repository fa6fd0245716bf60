"""Hit rate: whether anything in a list is relevant."""

import numpy as np

from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.metric import CatalogueMetric
from recmeta.tasks.arrays import Float64Array, IntArray


def hit(rank_R: IntArray, relevant: Relevant, k: int) -> Float64Array:
    """Return (B,) 1 if any r <= k, else 0, for a user whose relevant items have the ranks r."""
    return np.minimum(relevant.hits(rank_R, k), 1.0) + relevant.undefined_B


METRIC = CatalogueMetric(label="hit@{k}", of=hit)
