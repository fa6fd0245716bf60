"""The two learners whose adaptation is a system of linear equations, as graphs.

Legend: R known rows (padded), I items, W weights of a user, X numbers of an item vector, F factors.
"""

import dataclasses

import numpy as np

from recmeta.errors import UserError
from recmeta.exporting.graph import Value
from recmeta.exporting.known_user import KnownUser, array, looked_up, number
from recmeta.metalearn.algorithms.closed_form import bayesian_linear as bayes
from recmeta.metalearn.algorithms.closed_form import weighted_ridge as ridge
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.user_prior import PRIOR_LOG_PRECISION, PRIOR_MEAN, user_name
from recmeta.metalearn.starts.bayesian_linear_start import LOG_NOISE, PRIOR_BY_SUPPORT
from recmeta.metalearn.starts.weighted_ridge_start import LOG_CONFIDENCE
from recmeta.metalearn.tensors.batch import Rows


@dataclasses.dataclass(frozen=True)
class Expected:
    """What an adapted learner orders items by, in units of the model."""

    known_R: Value
    """Of the user's own rows."""
    every_I: Value
    """Of the whole catalogue."""


def bayesian_linear(
    learner: bayes.BayesianLinear, params: Params, items: Rows, user: KnownUser
) -> Expected:
    """Return what Bayesian linear regression expects: the mean of the posterior.

    Args:
        items: the catalogue, as the learner prepares it.

    Raises:
        UserError: of implicit feedback, where the learner draws items that a user did not take.
    """
    if not learner.is_graded:
        raise UserError(
            "on implicit feedback, 'bayesian-linear' adapts to items that it draws as not taken, "
            "which a graph cannot: train 'weighted-ridge'."
        )
    assert isinstance(items, bayes.VectorRows)
    graph, width = user.graph, learner.config.num_factors + 1
    vector_IX = graph.constant(items.vector_BRX[0].cpu().numpy(), "items.vector")
    known_RX = vector_IX.rows(user.item_R)
    ones_R1 = graph.constant(np.ones((1, 1), np.float32)) + 0.0 * known_RX.columns(0, 1)
    design_RW = graph.joined(ones_R1, known_RX.columns(1, width), axis=1)
    log_noise_R = known_RX.columns(width, width + 1).reshaped(-1) + number(params, LOG_NOISE)
    noise_R = graph.exp(log_noise_R.clipped(*bayes.LOG_NOISE_RANGE))

    counts_R = user.counts_R
    sum_X = (known_RX * counts_R.reshaped(-1, 1)).sum(0)
    num_1 = user.num_rows_1
    met = graph.joined(
        sum_X / (num_1 + bayes.SUPPORT_SHRINKAGE), graph.op("Log", num_1 + 1.0) / 4.0
    )
    by_support = graph.constant(array(params, PRIOR_BY_SUPPORT), PRIOR_BY_SUPPORT)
    prior_W = met @ by_support + graph.constant(array(params, PRIOR_MEAN), PRIOR_MEAN)
    for field in learner.user_fields:
        prior_W = prior_W + looked_up(user, field, params[user_name(field)])

    precision_W = params[PRIOR_LOG_PRECISION].clamp(*bayes.LOG_PRECISION_RANGE).exp()
    prior_WW = graph.constant(precision_W.diag().cpu().numpy(), PRIOR_LOG_PRECISION)
    weighted_RW = design_RW * (counts_R / noise_R).reshaped(-1, 1)
    surprise_R = user.value_R - (known_RX.columns(0, 1).reshaped(-1) + design_RW @ prior_W)
    weights_W = prior_W + graph.solved(
        weighted_RW.T @ design_RW + prior_WW, surprise_R @ weighted_RW, width
    )
    # An item's vector begins with its offset and ends with its noise.
    one, nothing = graph.constant(np.ones(1, np.float32)), graph.constant(np.zeros(1, np.float32))
    user_X = graph.joined(one, weights_W.rows(graph.integers(range(1, width))), nothing)
    constant_1 = weights_W.rows(graph.integers([0]))
    return Expected(known_RX @ user_X + constant_1, vector_IX @ user_X + constant_1)


def weighted_ridge(
    learner: ridge.WeightedRidge, params: Params, items: Rows, user: KnownUser
) -> Expected:
    """Return the scores of weighted ridge regression.

    Args:
        params: with what the learner derives from them.
        items: the catalogue, as the learner prepares it.
    """
    assert isinstance(items, ridge.FactorRows)
    graph = user.graph
    vector_IF = graph.constant(items.vector_BRF[0].cpu().numpy(), "items.vector")
    known_RF = vector_IF.rows(user.item_R)
    prior_F = graph.constant(array(params, PRIOR_MEAN), PRIOR_MEAN)
    for field in learner.user_fields:
        prior_F = prior_F + looked_up(user, field, params[user_name(field)])
    prior_F = prior_F / (user.num_rows_1 + 1.0)
    confidence = float(params[LOG_CONFIDENCE].clamp(*ridge.LOG_CONFIDENCE_RANGE).exp())
    ridge_F = params[PRIOR_LOG_PRECISION].clamp(*ridge.LOG_PRECISION_RANGE).exp()
    gram_FF = params[ridge.GRAM] + ridge_F.diag()
    weighted_RF = known_RF * (user.counts_R * confidence).reshaped(-1, 1)
    surprise_R = (1 + 1 / confidence) - known_RF @ prior_F
    weights_F = prior_F + graph.solved(
        weighted_RF.T @ known_RF + graph.constant(gram_FF.cpu().numpy(), ridge.GRAM),
        surprise_R @ weighted_RF,
        len(ridge_F),
    )
    weights_F = weights_F * float(ridge.scale_of(params))
    return Expected(known_RF @ weights_F, vector_IF @ weights_F)
