"""Which items lists show: how many of the catalogue, how evenly, and how well known they are.

What ranks best for each user may show everybody the same few items; these say so beside nDCG.

Legend: I items.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exposure:
    """What lists show of the catalogue; all NaN where they show nothing."""

    coverage: float
    """Share of the catalogue that is in some list."""
    gini: float
    """Gini coefficient of how often items are listed: 0 where all are equally often, near 1 where
    few have all the places (Fleder and Hosanagar, Management Science 2009)."""
    popularity: float
    """Mean over the places of the lists of the share of the catalogue that fewer users had met,
    half of those counted that equally many had: 1 for the best known item, 0.5 of items drawn
    evenly. Low is novel."""


def exposure(listed_I: Counts, num_users_I: Counts) -> Exposure:
    """Return what lists show.

    Args:
        listed_I: how often each item is in a list.
        num_users_I: users who had met it.
    """
    num_items, num_places = len(listed_I), int(listed_I.sum())
    if num_places == 0:
        return Exposure(coverage=np.nan, gini=np.nan, popularity=np.nan)
    rank_I = np.arange(1, num_items + 1)
    gini = float((2 * rank_I - num_items - 1) @ np.sort(listed_I)) / (num_items * num_places)
    known_I = np.sort(num_users_I)
    below_I = np.searchsorted(known_I, num_users_I, side="left")
    not_above_I = np.searchsorted(known_I, num_users_I, side="right")
    percentile_I = (below_I + not_above_I) / (2 * num_items)
    return Exposure(
        coverage=float((listed_I > 0).mean()),
        gini=gini,
        popularity=float(percentile_I @ listed_I / num_places),
    )
