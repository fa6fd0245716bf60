"""Predictions of query rows, and how far they may be off.

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
    """What has the least error, as in `Said`."""
    expected_N: Float32Array
    """Within the range of values."""
    said_N: Float32Array
    """What is said of the expected values before the uncertainty puts them on the scale, in units
    of the value."""
    spread_N: Float64Array | None
    """The standard deviation by the level head, else the learner's own, in units of the value;
    None where neither has one."""
    shares: LevelShares | None
    """The whole distributions, where there is a level head."""
    design_NF: Float64Array
    """What the uncertainty is a function of."""
    deviation_N: Float64Array | None
    """The standard deviation by the model's uncertainty; None where it has none."""


@torch.no_grad()
def predict_query(scorer: Scorer, tasks: Tasks) -> PredictedRows:
    """Return predictions of the query rows after adapting to the support, and how far they may
    be off."""
    return predict_rows(scorer, scorer.adapt(tasks), tasks)


@torch.no_grad()
def predict_rows(scorer: Scorer, state: UserState, tasks: Tasks) -> PredictedRows:
    """Return predictions of the query rows for users who are adapted to the tasks' support
    already."""
    model = scorer.model
    rows = scorer.rows(tasks.query, tasks)
    said = scorer.said(state, rows).of(rows.mask_BR.cpu().numpy())
    past_N = rows.statistics_BRD[rows.mask_BR][:, 1].cpu().double().numpy()
    user_N = tasks.query.task
    encoder = model.encoder
    variance_B = support_variance(tasks.support, encoder.value_mean, encoder.value_scale)
    design_NF = design(
        said.expected.astype(np.float64),
        model.value_range,
        num_support=tasks.support.lengths[user_N].astype(np.float64),
        num_users=np.expm1(past_N * POPULARITY_SCALE),
        variance=variance_B[user_N],
        spread=said.spread,
    )
    known = model.uncertainty
    deviation_N = None if known is None else known.deviation(design_NF)
    return PredictedRows(
        value_N=said.value,
        expected_N=said.expected,
        said_N=said.raw,
        spread_N=said.spread,
        shares=said.shares,
        design_NF=design_NF,
        deviation_N=deviation_N,
    )
