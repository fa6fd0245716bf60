"""The root mean squared error."""

import numpy as np

from recmeta.evaluation.measuring.per_user import mean_per_user
from recmeta.evaluation.metric import ErrorMetric
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged


def rmse(predicted_N: Scores, query: Ragged) -> Float64Array:
    """Return (B,) the root mean squared error of each user's rows: sqrt(sum (r - r')^2 / n).

    Its mean over users is *not* the RMSE of all rows together: a user with many rows counts no more
    than a user with few.
    """
    return np.sqrt(mean_per_user((predicted_N - query.value) ** 2, query))


METRIC = ErrorMetric(label="rmse", of=rmse, reads="mean")
