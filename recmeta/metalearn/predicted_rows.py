"""Predictions of query rows, and how far they may be off.

Legend: B users, N query rows of all users, F features of the uncertainty.
"""

import dataclasses

import numpy as np
import torch

from recmeta.metalearn.heads.uncertainty import design, support_variance
from recmeta.metalearn.learner import Prediction, UserState
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import POPULARITY_SCALE, Rows
from recmeta.tasks.arrays import Float32Array, Float64Array
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictedRows:
    """Predictions of N query rows, laid end to end."""

    value_N: Float32Array
    """As `ValueUnits.to_values` gives them."""
    expected_N: Float32Array
    """As `ValueUnits.to_expected` gives them."""
    said_N: Float32Array
    """What the learner says of the expected values, in units of the value."""
    spread_N: Float64Array | None
    """The learner's own standard deviation, in units of the value, where it has one."""
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
    predicted = scorer.predict(state, rows)
    ranked_by_N = predicted.ranked_by_BR[rows.mask_BR]
    expected_N = model.units.to_expected(ranked_by_N)
    spread_N = _spread(model, predicted, rows)
    past_N = rows.statistics_BRD[rows.mask_BR][:, 1].cpu().double().numpy()
    user_N = tasks.query.task
    encoder = model.encoder
    variance_B = support_variance(tasks.support, encoder.value_mean, encoder.value_scale)
    design_NF = design(
        expected_N.astype(np.float64),
        model.value_range,
        num_support=tasks.support.lengths[user_N].astype(np.float64),
        num_users=np.expm1(past_N * POPULARITY_SCALE),
        variance=variance_B[user_N],
        spread=spread_N,
    )
    known = model.uncertainty
    deviation_N = None if known is None else known.deviation(design_NF)
    return PredictedRows(
        value_N=model.units.to_values(predicted.mean_BR[rows.mask_BR]),
        expected_N=expected_N,
        said_N=model.units.unclipped(ranked_by_N),
        spread_N=spread_N,
        design_NF=design_NF,
        deviation_N=deviation_N,
    )


def _spread(model: Model, predicted: Prediction, rows: Rows) -> Float64Array | None:
    if predicted.spread_BR is None:
        return None
    spread_N = predicted.spread_BR[rows.mask_BR].detach().cpu().double().numpy()
    return np.asarray(spread_N * model.encoder.value_scale)
