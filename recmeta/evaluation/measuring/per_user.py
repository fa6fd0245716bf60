"""Sums and means over each user's query rows.

Legend: B users, N query rows.
"""

import numpy as np
import numpy.typing as npt

from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import BoolArray, Float64Array
from recmeta.tasks.task_set import Ragged


def sum_per_user(value_N: npt.NDArray[np.generic], query: Ragged) -> Float64Array:
    """Return (B,) the sum over each user's rows."""
    return np.bincount(query.task, value_N, minlength=len(query)).astype(np.float64)


def mean_per_user(value_N: Scores, query: Ragged) -> Float64Array:
    """Return (B,) the mean over each user's rows, or NaN for a user without rows."""
    num_rows_B = query.lengths.astype(np.float64)
    return ratio(sum_per_user(value_N, query), num_rows_B, num_rows_B > 0)


def ratio(above_B: Float64Array, below_B: Float64Array, defined_B: BoolArray) -> Float64Array:
    """Return (B,) the ratio where it is defined, and NaN elsewhere."""
    ratio_B = np.full(len(above_B), np.nan)
    np.divide(above_B, below_B, out=ratio_B, where=defined_B)
    return ratio_B
