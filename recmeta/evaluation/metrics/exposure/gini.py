"""How unevenly lists show items."""

import numpy as np

from recmeta.evaluation.metric import Counts, ExposureMetric, TopLists


def gini(listed_I: Counts) -> float:
    """Return the Gini coefficient of how often items are listed: 0 if all are listed equally often,
    near 1 if few items have all the places (Fleder and Hosanagar, Management Science 2009). It is
    NaN if there is no list."""
    num_items, num_places = len(listed_I), int(listed_I.sum())
    if num_places == 0:
        return np.nan
    rank_I = np.arange(1, num_items + 1)
    total = float((2 * rank_I - num_items - 1) @ np.sort(listed_I))
    return total / (num_items * num_places)


def _of(lists: TopLists) -> float:
    return gini(lists.listed_I)


METRIC = ExposureMetric(label="gini@{k}", of=_of, lower_is_better=True)
