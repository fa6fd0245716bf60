"""How well known the items are that lists show."""

import numpy as np

from recmeta.evaluation.metric import Counts, ExposureMetric, TopLists


def popularity(listed_I: Counts, num_users_I: Counts) -> float:
    """Return the mean popularity percentile of listed items: the share of the catalogue that fewer
    users had met than the listed item, with ties counted half. It is 1 for the best known item and
    0.5 for items drawn uniformly; low values are novel. It is NaN if there is no list."""
    num_items, num_places = len(listed_I), int(listed_I.sum())
    if num_places == 0:
        return np.nan
    known_I = np.sort(num_users_I)
    below_I = np.searchsorted(known_I, num_users_I, side="left")
    not_above_I = np.searchsorted(known_I, num_users_I, side="right")
    percentile_I = (below_I + not_above_I) / (2 * num_items)
    return float(percentile_I @ listed_I / num_places)


def _of(lists: TopLists) -> float | None:
    known_I = lists.num_users_I
    return None if known_I is None else popularity(lists.listed_I, known_I)


METRIC = ExposureMetric(label="popularity@{k}", of=_of, lower_is_better=True)
