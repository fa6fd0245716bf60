"""The items that lists show: how much of the catalogue, how evenly, and how well known they are.

A ranking that is best for each user may show all users the same few items, which these metrics
reveal and nDCG does not.

Legend: I items.
"""

import dataclasses

from recmeta.evaluation.metric import Counts
from recmeta.evaluation.metrics.exposure.coverage import coverage
from recmeta.evaluation.metrics.exposure.gini import gini
from recmeta.evaluation.metrics.exposure.popularity import popularity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exposure:
    """The exposure metrics of these names, all NaN if the lists are empty."""

    coverage: float
    gini: float
    popularity: float


def exposure(listed_I: Counts, num_users_I: Counts) -> Exposure:
    """Return the exposure metrics of lists.

    Args:
        listed_I: the number of lists that each item is in.
        num_users_I: the number of users who had met each item.
    """
    return Exposure(
        coverage=coverage(listed_I),
        gini=gini(listed_I),
        popularity=popularity(listed_I, num_users_I),
    )
