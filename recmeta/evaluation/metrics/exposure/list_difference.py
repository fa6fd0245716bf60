"""How far the lists of two users differ."""

import numpy as np

from recmeta.evaluation.metric import ExposureMetric, TopLists


def list_difference(lists: TopLists) -> float:
    """Return the mean over pairs of users of 1 - |overlap| / k, k being the length of the longest
    list: 0 if all have the same items, 1 if no two share an item (inter-user diversity: Zhou et
    al., PNAS 2010). It is NaN for fewer than two lists; users without a list are left out."""
    length_U = (lists.item_UK >= 0).sum(axis=1)
    num_lists = int((length_U > 0).sum())
    if num_lists < 2:
        return np.nan
    listed_I = lists.listed_I.astype(np.float64)  # an item is shared by each pair that has it
    shared = float(listed_I @ (listed_I - 1))
    return 1.0 - shared / (int(length_U.max()) * num_lists * (num_lists - 1))


METRIC = ExposureMetric(label="list-difference@{k}", of=list_difference)
