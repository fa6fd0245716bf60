"""A start for the Bayesian linear learner: a Bayesian matrix factorisation of the ratings, whose
vectors are the learner's own.

Legend: I items, C coefficients of an item, X numbers of an item vector (offset, factors, log
noise), W weights of a user.
"""

import math

import torch

from recmeta.metalearn.factors.factorisation import BayesianFactorisation
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.item_vectors import (
    BIAS,
    DEVIATION,
    FACTORS,
    FROM_CONTENT,
    FROM_STATISTICS,
    HELD_OUT,
    IDENTITY,
    INTERCEPT,
    UNKNOWN,
    content_name,
)
from recmeta.metalearn.networks.user_prior import PRIOR_LOG_PRECISION, PRIOR_MEAN
from recmeta.metalearn.starts.beginning import Built
from recmeta.metalearn.starts.content_transfer import known_content, start_users
from recmeta.metalearn.starts.pretraining import bayesian_factors, known_items
from recmeta.metalearn.tensors.encoding import ITEM_ID_FIELD
from recmeta.tasks.task_set import Ragged

PRIOR_BY_SUPPORT = "prior.by_support"
LOG_NOISE = "noise.log"
OFFSET_COLUMNS = frozenset([BIAS, FROM_CONTENT, FROM_STATISTICS, IDENTITY, UNKNOWN])
"""Parameters whose first column is an offset, in units of the model."""


def start_from_factorisation(
    built: Built,
    params: Params,
    rows: Ragged,
    seed: int,
    source: Built | None = None,
    *,
    keep: bool = False,
    factorised: dict[int, BayesianFactorisation] | None = None,
) -> Params:
    """Return parameters that predict as a Bayesian matrix factorisation of the meta-training rows
    does.

    Args:
        rows: per user, in units of the value.
        seed: of the factorisation.
        source: the model whose content the factorisation begins with and shrinks to, and whose
            users' attributes are carried over, or None.
        keep: whether the rows of that content are kept unchanged.
        factorised: see `bayesian_factors`.

    Raises:
        UserError: when the source's content does not fit this model.
    """
    num_factors = len(params[INTERCEPT]) - 1
    known = None if source is None else known_content(built, source, num_factors, keep=keep)
    found = bayesian_factors(built, rows, num_factors, seed, known, factorised)
    started = _with_factors(built, params, found.standardised())
    return started if source is None else start_users(built, started, source, found.turn())


def _with_factors(built: Built, params: Params, found: BayesianFactorisation) -> Params:
    started = dict(params)

    def put(name: str, value: torch.Tensor) -> None:
        if name in params:
            started[name] = value.to(params[name])

    prior = found.content
    for field in built.encoder.item_fields:
        if field.name != ITEM_ID_FIELD:
            put(content_name(field), prior.tables[field.name])
    put(INTERCEPT, prior.intercept_C)
    bias_X = torch.zeros_like(params[BIAS])
    bias_X[0] = found.user_mean_C[0]
    put(BIAS, bias_X)
    put(LOG_NOISE, torch.tensor(found.noise).log())
    put(PRIOR_LOG_PRECISION, -found.user_covariance_CC.diagonal().log())
    known = known_items(built)
    if known is not None:
        put(IDENTITY, torch.zeros_like(params[IDENTITY]))
        deviation_IC = found.item_covariance_ICC.diagonal(dim1=1, dim2=2).sqrt()
        for name, table_IC in (
            (DEVIATION, deviation_IC),
            (FACTORS, found.item_IC - prior.fitted_IC),
            (HELD_OUT, prior.held_out_IC - prior.fitted_IC),
        ):
            put(name, torch.cat([torch.zeros_like(table_IC[:1]), table_IC[known]]))
    return started


def rescaled(params: Params, ratio: float, shift: float) -> Params:
    """Return parameters for values v' = ratio · v + shift that predict as the given ones do of v.

    The result is exact except for the part of the prior mean that depends on the offsets of the
    support's items: their shift is not undone.
    """
    changed = dict(params)
    for name, p in params.items():
        if name in OFFSET_COLUMNS:
            changed[name] = torch.cat([p[..., :1] * ratio, p[..., 1:]], -1)
        elif name == PRIOR_MEAN or name.startswith(("embedding.user.", "prior.user.")):
            changed[name] = p * ratio
    changed[BIAS] = changed[BIAS].clone()
    changed[BIAS][0] += shift
    by_offset_1W, by_rest_XW = params[PRIOR_BY_SUPPORT][:1], params[PRIOR_BY_SUPPORT][1:]
    changed[PRIOR_BY_SUPPORT] = torch.cat([by_offset_1W, by_rest_XW * ratio])
    changed[PRIOR_LOG_PRECISION] = params[PRIOR_LOG_PRECISION] - 2 * math.log(ratio)
    changed[LOG_NOISE] = params[LOG_NOISE] + 2 * math.log(ratio)
    return changed
