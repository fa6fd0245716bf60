"""The training rows of the baselines, and the few sums that they share."""

import numpy as np

from recmeta.errors import UserError
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks


def training_rows(train: Tasks) -> Ragged:
    """Return the support and query rows of every task, joined per task.

    Raises:
        UserError: if there is not a single row to learn from.
    """
    rows = train.rows
    if len(rows.item) == 0:
        raise UserError(
            "the meta-training split has no interactions, so there is nothing to fit the baselines "
            "on: build the tasks with a larger share of training users."
        )
    return rows


def mean_value(rows: Ragged) -> float:
    """Return the mean value over all rows."""
    return float(rows.value.mean(dtype=np.float64))


def sum_by_item(rows: Ragged, weight_N: Float64Array, num_items: int) -> Float64Array:
    """Return (I,) the sum of the rows' weights at each item."""
    return np.bincount(rows.item, weight_N, minlength=num_items).astype(np.float64)


def sum_by_task(rows: Ragged, weight_N: Float64Array) -> Float64Array:
    """Return (B,) the sum of the rows' weights in each task."""
    return np.bincount(rows.task, weight_N, minlength=len(rows)).astype(np.float64)
