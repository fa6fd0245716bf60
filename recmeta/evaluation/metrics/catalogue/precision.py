"""Precision: the share of a list that is relevant."""

from recmeta.evaluation.measuring.catalogue_ranking import Relevant
from recmeta.evaluation.metric import CatalogueMetric
from recmeta.tasks.arrays import Float64Array, IntArray


def precision(rank_R: IntArray, relevant: Relevant, k: int) -> Float64Array:
    """Return (B,) |{r <= k}| / k, for a user whose relevant items have the ranks r."""
    return relevant.hits(rank_R, k) / k + relevant.undefined_B


METRIC = CatalogueMetric(label="precision@{k}", of=precision)
