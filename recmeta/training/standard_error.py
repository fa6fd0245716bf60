"""Choices on few users: the simplest candidate within a standard error of the best (Breiman et al.,
Classification and Regression Trees, 1984).

Legend: B users.
"""

from collections.abc import Sequence

import numpy as np

from recmeta.tasks.arrays import Float64Array


def simplest_of_best(losses: Sequence[Float64Array]) -> int:
    """Return the first candidate whose loss by user (B,) is within a standard error of the mean
    difference from the least one."""
    best = min(losses, key=lambda loss_B: float(loss_B.mean()))
    return next(n for n, loss_B in enumerate(losses) if is_as_good(loss_B, best))


def is_as_good(loss_B: Float64Array, best_B: Float64Array) -> bool:
    """Return whether losses are at most a standard error of the mean difference above others."""
    worse_B = loss_B - best_B
    return bool(worse_B.mean() <= worse_B.std(ddof=1) / np.sqrt(len(worse_B)))
