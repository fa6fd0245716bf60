"""How many of a user's ratings are predicted to within one.

Legend: B users, N query rows.
"""

import numpy as np

from recmeta.evaluation.measuring.per_user import mean_per_user
from recmeta.evaluation.metric import ErrorMetric
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged


def within_one(predicted_N: Scores, query: Ragged) -> Float64Array:
    """Return (B,) the share of each user's rows whose error is at most 1; NaN where a row has no
    prediction."""
    error_N = np.abs(predicted_N - query.value)
    near_N = np.where(np.isnan(error_N), np.nan, (error_N <= 1.0).astype(np.float64))
    return mean_per_user(near_N, query)


METRIC = ErrorMetric(label="within_one", of=within_one, lower_is_better=False)
