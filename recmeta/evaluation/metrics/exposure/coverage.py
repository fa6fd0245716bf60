"""How much of the catalogue lists show."""

import numpy as np

from recmeta.evaluation.metric import Counts, ExposureMetric


def coverage(listed_I: Counts) -> float:
    """Return the share of the catalogue that is in some list, or NaN if there is no list."""
    return float((listed_I > 0).mean()) if listed_I.any() else np.nan


METRIC = ExposureMetric(label="coverage@{k}", of=lambda lists: coverage(lists.listed_I))
