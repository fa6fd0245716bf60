"""Recall: the share of the relevant items that are in a list."""

import numpy as np

from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.metric import CatalogueMetric
from recmeta.tasks.arrays import Float64Array, IntArray


def recall(rank_R: IntArray, relevant: Relevant, k: int) -> Float64Array:
    """Return (B,) |{r <= k}| / n, for a user whose n relevant items have the ranks r."""
    count_B = relevant.count_B
    # A user without relevant items has 0 / NaN, which is NaN.
    return relevant.hits(rank_R, k) / np.where(count_B > 0, count_B, np.nan)


METRIC = CatalogueMetric(label="recall@{k}", of=recall)
