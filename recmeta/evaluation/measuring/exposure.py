"""Which items lists show: how many of the catalogue, how evenly, and how well known they are.

What ranks best for each user may show everybody the same few items; these say so beside nDCG.

Legend: I items.
"""

import dataclasses

from recmeta.evaluation.metric import Counts
from recmeta.evaluation.metrics.exposure.coverage import coverage
from recmeta.evaluation.metrics.exposure.gini import gini
from recmeta.evaluation.metrics.exposure.popularity import popularity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exposure:
    """What lists show of the catalogue, as the metrics of these names; all NaN where they show
    nothing."""

    coverage: float
    gini: float
    popularity: float


def exposure(listed_I: Counts, num_users_I: Counts) -> Exposure:
    """Return what lists show.

    Args:
        listed_I: how often each item is in a list.
        num_users_I: users who had met it.
    """
    return Exposure(
        coverage=coverage(listed_I),
        gini=gini(listed_I),
        popularity=popularity(listed_I, num_users_I),
    )
