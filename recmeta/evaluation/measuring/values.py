"""A description of the values of a rating log: their scale, and the values of liked items."""

import dataclasses

import numpy as np

from recmeta.metalearn.heads.median import count_levels
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array

RELEVANT_SHARE = 0.6
"""The relevant part of the value range begins at this share of it: 4 and 5 are relevant on a scale
from 1 to 5."""
FEW = 0.01
"""If a smaller share of the values is relevant by that rule, a tail has stretched the range."""
LIKED_QUANTILE = 0.75
"""With such a tail, values from this quantile upwards are relevant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Values:
    """The values that meta-training users gave."""

    lowest: float
    highest: float
    median: float
    num_levels: int | None
    """The number of evenly spaced levels of the scale, or None if it has none."""
    has_tail: bool
    """Whether a few values are so far from all others that they are probably counts or amounts."""
    relevant_from: float
    """The smallest value of a relevant item: 60 % up the range or, with a tail, the value that a
    quarter of the values reach."""


def describe(values: Float32Array, value_range: tuple[float, float]) -> Values:
    """Return the description of the training values (N,), of which there is at least one.

    Args:
        value_range: the lowest and the highest value.
    """
    lowest, highest = value_range
    relevant_from = lowest + RELEVANT_SHARE * (highest - lowest)
    some = scratch.thinned(values)
    liked = float(np.quantile(some, LIKED_QUANTILE))
    has_tail = float(np.mean(some >= relevant_from)) < FEW and liked > lowest
    return Values(
        lowest=lowest,
        highest=highest,
        median=float(np.median(some)),
        num_levels=count_levels(values, value_range),
        has_tail=has_tail,
        relevant_from=liked if has_tail else relevant_from,
    )
