"""A conditional logit: the weights that make users' choices most likely (McFadden, Frontiers in
Econometrics, Academic Press 1974).

    loss_u = - Σ_{i liked} log softmax(Σ_k h_k(n) Σ_c w_kc x_ic)_i / number liked

plus penalties that draw the weights to those of other logs (`recmeta.training.lists.prior`), and
their differences from these at neighbouring knots together: the weights are the maximum a
posteriori under a Gaussian prior. The loss is convex; Newton's method finds its minimum, in units
in which every column but popularity, which is a logarithm, has a standard deviation of 1.

Legend: B users, M items of each, C columns, K knots, P = K · C.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from recmeta.metalearn.heads.list_head import KNOTS, POPULARITY
from recmeta.metalearn.numerics.newton import minimised
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray

STRENGTH = 1.0
"""The penalty, divided by the number of users, on squared distances from the prior and on squared
differences of these distances between neighbouring knots."""
NUM_FOLDS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """The choices of users, with a number of known rows, and the items that they chose from."""

    column: dict[str, Float64Array]
    """The columns, (B, M) by name."""
    hat_BK: Float64Array
    """The weight of each knot for the user."""
    liked_BM: BoolArray
    log_weight_BM: Float64Array
    """The logarithm of the number of items that each item represents; -inf where padded."""

    def of_users(self, users_b: IntArray) -> "Choices":
        """Return the choices of some users."""
        return Choices(
            column={name: values[users_b] for name, values in self.column.items()},
            hat_BK=self.hat_BK[users_b],
            liked_BM=self.liked_BM[users_b],
            log_weight_BM=self.log_weight_BM[users_b],
        )


def held_out_losses(
    choices: Sequence[Choices], columns: tuple[str, ...], prior_KC: Float64Array
) -> Float64Array:
    """Return (B,) the users' losses with weights that were learned from the other users."""
    num_users = len(choices[0].hat_BK)
    fold_B = np.arange(num_users) % NUM_FOLDS
    loss_B = np.zeros(num_users)
    for fold in range(NUM_FOLDS):
        here, others = np.flatnonzero(fold_B == fold), np.flatnonzero(fold_B != fold)
        weight_KC = fitted_weights([c.of_users(others) for c in choices], columns, prior_KC)
        for some in (c.of_users(here) for c in choices):
            loss_B[here] += losses(_design(some.column, columns), some, weight_KC)[0]
    mean_B: Float64Array = loss_B / len(choices)
    return mean_B


def fitted_weights(
    choices: Sequence[Choices],
    columns: tuple[str, ...],
    prior_KC: Float64Array,
    strength: float = STRENGTH,
) -> Float64Array:
    """Return the weights (K, C) of least loss, in the original units of the columns.

    Args:
        prior_KC: the weights towards which they shrink, in units of standard deviations.
        strength: see `STRENGTH`.
    """
    scale_C = scales(choices, columns)
    num_users = len(choices[0].hat_BK)
    penalty_PP = strength * _penalty(len(columns)) / num_users
    scaled = [_design(c.column, columns) / scale_C for c in choices]

    def loss_at(weight_P: Float64Array) -> float:
        weight_KC, away_P = weight_P.reshape(prior_KC.shape), weight_P - prior_KC.reshape(-1)
        each = [losses(*pair, weight_KC)[0] for pair in zip(scaled, choices, strict=True)]
        return float(np.mean(each)) + float(away_P @ penalty_PP @ away_P) / 2

    def slope_and_curve(weight_P: Float64Array) -> tuple[Float64Array, Float64Array]:
        weight_KC, away_P = weight_P.reshape(prior_KC.shape), weight_P - prior_KC.reshape(-1)
        parts = [derivatives(*pair, weight_KC) for pair in zip(scaled, choices, strict=True)]
        slope_P = np.mean([slope for slope, _ in parts], 0) + penalty_PP @ away_P
        return slope_P, np.mean([curve for _, curve in parts], 0) + penalty_PP

    weight_P = minimised(prior_KC.reshape(-1), loss_at, slope_and_curve)
    return np.asarray(weight_P.reshape(prior_KC.shape) / scale_C)


def scales(choices: Sequence[Choices], columns: tuple[str, ...]) -> Float64Array:
    """Return (C,) the standard deviations of the columns over users' items, 1 for popularity and
    for columns without any deviation."""
    variances = [_design(c.column, columns).reshape(-1, len(columns)).var(0) for c in choices]
    scale_C = np.sqrt(np.mean(variances, 0))
    scale_C[np.array(columns) == POPULARITY] = 1.0
    return np.where(scale_C > 1e-9, scale_C, 1.0)


def _penalty(num_columns: int) -> Float64Array:
    """Return (P, P) the matrix of the penalty's square form, for one user."""
    difference = np.diff(np.eye(len(KNOTS)), axis=0)
    between_KK = difference.T @ difference + np.eye(len(KNOTS)) / len(KNOTS)
    return np.asarray(2 * np.kron(between_KK, np.eye(num_columns)))


def _design(column: Mapping[str, Float64Array], columns: tuple[str, ...]) -> Float64Array:
    return np.stack([column[name] for name in columns], -1)


def losses(
    design_BMC: Float64Array, choices: Choices, weight_KC: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return (B,) the users' losses, and (B, M) the probabilities of the items."""
    score_BM = np.einsum("bmc,bc->bm", design_BMC, choices.hat_BK @ weight_KC)
    score_BM = score_BM + choices.log_weight_BM
    score_BM -= score_BM.max(1, keepdims=True)
    probability_BM = np.exp(score_BM)
    total_B1 = probability_BM.sum(1, keepdims=True)
    log_BM = np.where(choices.liked_BM, score_BM - np.log(total_B1), 0.0)
    loss_B = -log_BM.sum(1) / choices.liked_BM.sum(1)
    return loss_B, probability_BM / total_B1


def derivatives(
    design_BMC: Float64Array, choices: Choices, weight_KC: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return the gradient (P,) and the Hessian (P, P) of the mean loss."""
    probability_BM = losses(design_BMC, choices, weight_KC)[1]
    num_users, num_columns = len(design_BMC), design_BMC.shape[2]
    liked_BM = choices.liked_BM / choices.liked_BM.sum(1, keepdims=True)
    expected_BC = np.einsum("bm,bmc->bc", probability_BM, design_BMC)
    slope_BC = expected_BC - np.einsum("bm,bmc->bc", liked_BM, design_BMC)
    square_BCC = np.einsum("bmc,bmd->bcd", design_BMC * probability_BM[..., None], design_BMC)
    curve_BCC = square_BCC - expected_BC[:, :, None] * expected_BC[:, None]
    hat_BK = choices.hat_BK
    slope_KC = hat_BK.T @ slope_BC / num_users
    size = hat_BK.shape[1] * num_columns
    curve = np.einsum("bk,bl,bcd->kcld", hat_BK, hat_BK, curve_BCC) / num_users
    return slope_KC.reshape(-1), curve.reshape(size, size)
