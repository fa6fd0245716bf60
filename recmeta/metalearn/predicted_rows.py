"""Predictions of query rows, and their uncertainty.

Legend: B users, N query rows of all users, F features of the uncertainty.
"""

import dataclasses

import numpy as np
import torch

from recmeta.metalearn.heads.levels import LevelShares
from recmeta.metalearn.heads.uncertainty import design, support_variance
from recmeta.metalearn.learner import UserState
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import POPULARITY_SCALE
from recmeta.tasks.arrays import Float32Array, Float64Array
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedRows:
    """Predictions of N query rows, laid end to end."""

    value_N: Float32Array
    """The prediction with the least error, as in `ValuePredictions`."""
    expected_N: Float32Array
    """The expected value, within the range of values."""
    raw_N: Float32Array
    """The expected value before the uncertainty calibrates it, in units of the value."""
    spread_N: Float64Array | None
    """The standard deviation of the level head or, without one, of the learner, in units of the
    value. None if neither has one."""
    shares: LevelShares | None
    """The whole distributions, if there is a level head."""
    design_NF: Float64Array
    """The inputs of the uncertainty."""
    deviation_N: Float64Array | None
    """The standard deviation of the model's uncertainty, or None if it has none."""


@torch.no_grad()
def predict_query(scorer: Scorer, tasks: Tasks) -> PredictedRows:
    """Return predictions of the query rows after adapting to the support, and their uncertainty."""
    return predict_rows(scorer, scorer.adapt(tasks), tasks)


@torch.no_grad()
def predict_rows(scorer: Scorer, state: UserState, tasks: Tasks) -> PredictedRows:
    """Return predictions of the query rows for users who have adapted to the tasks' support
    already."""
    model = scorer.model
    rows = scorer.rows(tasks.query, tasks)
    predicted = scorer.predict_values(state, rows).of(rows.mask_BR.cpu().numpy())
    past_N = rows.statistics_BRD[rows.mask_BR][:, 1].cpu().double().numpy()
    user_N = tasks.query.task
    encoder = model.encoder
    variance_B = support_variance(tasks.support, encoder.value_mean, encoder.value_scale)
    design_NF = design(
        predicted.expected.astype(np.float64),
        model.value_range,
        num_support=tasks.support.lengths[user_N].astype(np.float64),
        num_users=np.expm1(past_N * POPULARITY_SCALE),
        variance=variance_B[user_N],
        spread=predicted.spread,
    )
    known = model.uncertainty
    deviation_N = None if known is None else known.deviation(design_NF)
    return PredictedRows(
        value_N=predicted.value,
        expected_N=predicted.expected,
        raw_N=predicted.raw,
        spread_N=predicted.spread,
        shares=predicted.shares,
        design_NF=design_NF,
        deviation_N=deviation_N,
    )
