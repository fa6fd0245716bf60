"""The mean absolute error."""

import numpy as np

from recmeta.evaluation.measuring.per_user import mean_per_user
from recmeta.evaluation.metric import ErrorMetric
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged


def mae(predicted_N: Scores, query: Ragged) -> Float64Array:
    """Return (B,) the mean absolute error of each user's rows: sum |r - r'| / n."""
    return mean_per_user(np.abs(predicted_N - query.value), query)


METRIC = ErrorMetric(label="mae", of=mae)
