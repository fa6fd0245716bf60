"""How much of the catalogue lists show."""

import numpy as np

from recmeta.evaluation.metric import Counts, ExposureMetric, TopLists


def coverage(listed_I: Counts) -> float:
    """Return the share of the catalogue that is in some list, or NaN if there is no list."""
    return float((listed_I > 0).mean()) if listed_I.any() else np.nan


def _of(lists: TopLists) -> float:
    return coverage(lists.listed_I)


METRIC = ExposureMetric(label="coverage@{k}", of=_of)
