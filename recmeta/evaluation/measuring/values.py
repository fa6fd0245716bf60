"""What the values of a rating log are like: their scale, and which of them say that an item was
liked."""

import dataclasses

import numpy as np

from recmeta.metalearn.heads.median import count_levels
from recmeta.tasks.arrays import Float32Array

RELEVANT_SHARE = 0.6
"""Of the value range: 4 and 5 on a scale from 1 to 5."""
FEW = 0.01
"""Where a smaller share of the values is relevant by that, a tail has stretched the range."""
LIKED_QUANTILE = 0.75
"""Of values with such a tail, those from this quantile up are relevant."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Values:
    """The values that meta-training users gave."""

    lowest: float
    highest: float
    median: float
    num_levels: int | None
    """Evenly spaced steps of the scale; if None, it has none."""
    has_tail: bool
    """Whether a few values are so far from all others that they are rather counts or amounts."""
    relevant_from: float
    """Smallest value that makes an item relevant: 60 % up the range; with a tail, the value that a
    quarter reaches."""


def describe(values: Float32Array, value_range: tuple[float, float]) -> Values:
    """Return what the training values (N,), at least one, are like.

    Args:
        value_range: lowest and highest value.
    """
    lowest, highest = value_range
    relevant_from = lowest + RELEVANT_SHARE * (highest - lowest)
    liked = float(np.quantile(values, LIKED_QUANTILE))
    has_tail = float(np.mean(values >= relevant_from)) < FEW and liked > lowest
    return Values(
        lowest=lowest,
        highest=highest,
        median=float(np.median(values)),
        num_levels=count_levels(values, value_range),
        has_tail=has_tail,
        relevant_from=liked if has_tail else relevant_from,
    )
