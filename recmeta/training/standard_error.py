"""Choices on few users: the simplest candidate within a standard error of the best (Breiman et al.,
Classification and Regression Trees, 1984).

Legend: B users.
"""

from collections.abc import Sequence

import numpy as np

from recmeta.tasks.arrays import Float64Array


def simplest_of_best(losses: Sequence[Float64Array]) -> int:
    """Return the first candidate whose loss by user (B,) exceeds the least one by at most a
    standard error of the mean difference."""
    best = min(losses, key=lambda loss_B: float(loss_B.mean()))
    return next(n for n, loss_B in enumerate(losses) if is_as_good(loss_B, best))


def is_as_good(loss_B: Float64Array, best_B: Float64Array) -> bool:
    """Return whether losses exceed the best ones by at most a standard error of the mean
    difference."""
    worse_B = loss_B - best_B
    return bool(worse_B.mean() <= worse_B.std(ddof=1) / np.sqrt(len(worse_B)))
