"""Bayesian matrix factorisation with a content prior for items: a start for meta-learners.

    value_ui = b_u + b_i + p_u · q_i + noise
    (b_u, p_u) ~ N(m, Λ⁻¹)        (b_i, q_i) ~ N(content prior of i, Σ)

Variational Bayes (Lim and Teh, KDD Cup 2007; with content as in Agarwal and Chen, KDD 2009): every
user's and item's posterior is a Gaussian in closed form given the others', and m, Λ, Σ and the
noise are fitted, so that nothing has to be tuned but the number of factors. An item that few users
rated stays near its content prior.

Legend: U users, I items, N rows, O the other side, C = 1 + factors coefficients (bias first),
J = C + 1 coefficients of both sides together (user bias, item bias, factors).
"""

import dataclasses

import numpy as np
import torch

from recmeta.metalearn.factors.content_prior import ContentPrior, ContentRegression
from recmeta.tasks.arrays import offsets_of
from recmeta.tasks.task_set import Ragged

USER_BIAS, ITEM_BIAS = 0, 1
"""Coordinates of J; the other side of each is the constant 1."""
FIRST_CONTENT_SWEEP = 3
CONTENT_SWEEPS = 4
"""Content is fitted again after this many sweeps, and after the last one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorisationConfig:
    """The size of the factorisation."""

    num_factors: int = 16
    """Length of a user's and an item's vector without the bias."""
    sweeps: int = 12
    """Alternations between users and items."""

    def __post_init__(self) -> None:
        if self.num_factors < 1 or self.sweeps < 1:
            raise ValueError(
                f"num_factors {self.num_factors} and sweeps {self.sweeps} must be positive."
            )


@dataclasses.dataclass(frozen=True)
class BayesianFactorisation:
    """The fitted factorisation, in float64 and in the units of the given values."""

    item_IC: torch.Tensor
    """Posterior means of the items' biases and vectors; for an item without rows, its content
    prior."""
    item_covariance_ICC: torch.Tensor
    """Posterior covariances of the items' biases and vectors."""
    content: ContentPrior
    user_mean_C: torch.Tensor
    user_covariance_CC: torch.Tensor
    noise: float
    """The variance of a value about its prediction if all vectors were known exactly."""

    def turn(self) -> torch.Tensor:
        """Return the matrix (C, C) by which `standardised` multiplies the items' vectors."""
        turn_CC = torch.zeros_like(self.user_covariance_CC)
        turn_CC[0, 0] = 1.0
        turn_CC[1:, 0] = self.user_mean_C[1:]
        turn_CC[1:, 1:] = torch.linalg.cholesky(self.user_covariance_CC[1:, 1:])
        return turn_CC

    def standardised(self) -> "BayesianFactorisation":
        """Return an equivalent factorisation whose items are rotated and scaled so that the users'
        factors have mean 0 and unit covariance; their covariance with the user's bias is left
        out."""
        turn_CC = self.turn()
        mean_C = torch.zeros_like(self.user_mean_C)
        mean_C[0] = self.user_mean_C[0]
        covariance_CC = torch.eye(len(mean_C), dtype=mean_C.dtype)
        covariance_CC[0, 0] = self.user_covariance_CC[0, 0]
        content = ContentPrior(
            {name: table @ turn_CC for name, table in self.content.tables.items()},
            self.content.intercept_C @ turn_CC,
            self.content.fitted_IC @ turn_CC,
            self.content.held_out_IC @ turn_CC,
        )
        return BayesianFactorisation(
            item_IC=self.item_IC @ turn_CC,
            item_covariance_ICC=turn_CC.T @ self.item_covariance_ICC @ turn_CC,
            content=content,
            user_mean_C=mean_C,
            user_covariance_CC=covariance_CC,
            noise=self.noise,
        )


@dataclasses.dataclass(frozen=True)
class _Side:
    """The rows of every user (or item), grouped: the rows of user u lie between two offsets."""

    offsets: torch.Tensor
    other_N: torch.Tensor
    value_N: torch.Tensor

    def sums(self, table_OJ: torch.Tensor, weight_N: torch.Tensor | None = None) -> torch.Tensor:
        return torch.nn.functional.embedding_bag(
            self.other_N,
            table_OJ,
            self.offsets,
            mode="sum",
            per_sample_weights=weight_N,
            include_last_offset=True,
        )


@dataclasses.dataclass
class _Gaussians:
    """Posteriors of one side: (M, C) means, (M, C, C) covariances."""

    mean_MC: torch.Tensor
    covariance_MCC: torch.Tensor
    constant: int
    """The coordinate of J that is 1 on this side."""

    @property
    def free(self) -> list[int]:
        return [j for j in range(self.mean_MC.shape[1] + 1) if j != self.constant]

    def full(self) -> torch.Tensor:
        """Return the means in J coordinates."""
        full_MJ = self.mean_MC.new_ones(len(self.mean_MC), self.mean_MC.shape[1] + 1)
        full_MJ[:, self.free] = self.mean_MC
        return full_MJ

    def second_moments(self) -> torch.Tensor:
        """Return the expected outer products, (M, J, J)."""
        full_MJ = self.full()
        second_MJJ = full_MJ[:, :, None] * full_MJ[:, None, :]
        free = torch.tensor(self.free)
        second_MJJ[:, free[:, None], free] += self.covariance_MCC
        return second_MJJ


def factorise(
    rows: Ragged, content: ContentRegression, num_items: int, config: FactorisationConfig, seed: int
) -> BayesianFactorisation:
    """Return the factorisation of the users' rows.

    Args:
        rows: per user; the values have a mean near 0 and a standard deviation near 1.
        content: the regression over the same items.
        seed: draws the initial vectors.
    """
    users, items = _by_user(rows), _by_item(rows, num_items)
    width = config.num_factors + 1
    generator = torch.Generator().manual_seed(seed)
    noise_IC = 0.1 * torch.randn((num_items, width), generator=generator, dtype=torch.float64)
    noise_IC[:, 0] = 0.0
    eye = torch.eye(width, dtype=torch.float64)
    item = _Gaussians(noise_IC, (1e-3 * eye).expand(num_items, -1, -1), USER_BIAS)
    user = _Gaussians(torch.zeros((len(rows), width), dtype=torch.float64), eye, ITEM_BIAS)
    user_mean_C = torch.zeros(width, dtype=torch.float64)
    user_covariance = eye * torch.tensor([0.2] + [1.0] * config.num_factors)
    item_covariance = eye * torch.tensor([0.1] + [0.05] * config.num_factors)
    prior = content.before(width)
    item.mean_MC = item.mean_MC + prior.fitted_IC
    is_rated = items.offsets.diff() > 0
    noise = 0.6
    for sweep in range(config.sweeps):
        gram, moment = _normal_equations(users, item)
        _update(user, gram, moment, user_mean_C.expand(len(rows), -1), user_covariance, noise)
        user_mean_C = user.mean_MC.mean(0)
        user_covariance = _spread(user, user_mean_C)
        noise = _expected_squares(user, gram, moment, users.value_N)
        gram, moment = _normal_equations(items, user)
        _update(item, gram, moment, prior.fitted_IC, item_covariance, noise)
        is_last = sweep == config.sweeps - 1
        if sweep % CONTENT_SWEEPS == FIRST_CONTENT_SWEEP or is_last:
            prior = _content(content, item, prior.fitted_IC, item_covariance, is_rated)
        rated = _Gaussians(item.mean_MC[is_rated], item.covariance_MCC[is_rated], USER_BIAS)
        item_covariance = _spread(rated, prior.fitted_IC[is_rated])
    found_IC = torch.where(is_rated[:, None], item.mean_MC, prior.fitted_IC)
    return BayesianFactorisation(
        item_IC=found_IC,
        item_covariance_ICC=item.covariance_MCC,
        content=prior,
        user_mean_C=user_mean_C,
        user_covariance_CC=user_covariance,
        noise=noise,
    )


def _by_user(rows: Ragged) -> _Side:
    return _Side(
        torch.from_numpy(rows.offsets - rows.offsets[0]),
        torch.from_numpy(rows.item.astype(np.int64)),
        torch.from_numpy(rows.value.astype(np.float64)),
    )


def _by_item(rows: Ragged, num_items: int) -> _Side:
    order = np.argsort(rows.item, kind="stable")
    lengths = np.bincount(rows.item, minlength=num_items)
    return _Side(
        torch.from_numpy(offsets_of(lengths)),
        torch.from_numpy(rows.task[order].astype(np.int64)),
        torch.from_numpy(rows.value[order].astype(np.float64)),
    )


def _normal_equations(side: _Side, other: _Gaussians) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums over each member's rows of the other side's expected outer products (M, J,
    J), and of the other side's means times the values (M, J)."""
    full_OJ = other.full()
    width = full_OJ.shape[1]
    i, j = torch.triu_indices(width, width)  # symmetric matrices: one triangle is summed
    triangle_MT = side.sums(other.second_moments()[:, i, j])
    gram_MJJ = triangle_MT.new_empty(len(triangle_MT), width, width)
    gram_MJJ[:, i, j] = triangle_MT
    gram_MJJ[:, j, i] = triangle_MT
    return gram_MJJ, side.sums(full_OJ, side.value_N)


def _update(
    side: _Gaussians,
    gram_MJJ: torch.Tensor,
    moment_MJ: torch.Tensor,
    prior_MC: torch.Tensor,
    covariance_CC: torch.Tensor,
    noise: float,
) -> None:
    """Set one side to its posterior given the other."""
    precision_CC = torch.linalg.inv(covariance_CC)
    free = torch.tensor(side.free)
    known_MCC = gram_MJJ[:, free[:, None], free] / noise
    linear_MC = (moment_MJ[:, free] - gram_MJJ[:, free, side.constant]) / noise
    factor = torch.linalg.cholesky(known_MCC + precision_CC)
    side.covariance_MCC = torch.cholesky_inverse(factor)
    right_MC = linear_MC + prior_MC @ precision_CC
    side.mean_MC = (side.covariance_MCC @ right_MC[..., None])[..., 0]


def _spread(side: _Gaussians, about: torch.Tensor) -> torch.Tensor:
    """Return the expected covariance (C, C) of one side's vectors about these means."""
    apart_MC = side.mean_MC - about
    return apart_MC.T @ apart_MC / len(apart_MC) + side.covariance_MCC.mean(0)


def _expected_squares(
    side: _Gaussians, gram_MJJ: torch.Tensor, moment_MJ: torch.Tensor, value_N: torch.Tensor
) -> float:
    """Return the mean expected squared residual of the rows."""
    explained = 2 * (side.full() * moment_MJ).sum() - (gram_MJJ * side.second_moments()).sum()
    return float((value_N.square().sum() - explained) / len(value_N))


def _content(
    regression: ContentRegression,
    item: _Gaussians,
    prior_IC: torch.Tensor,
    covariance_CC: torch.Tensor,
    is_rated_I: torch.Tensor,
) -> ContentPrior:
    """Return the regression on content of the items' vectors, as the rows alone determine them.

    A posterior contains the prior, which is divided out; otherwise content would confirm itself.
    """
    posterior_IC = item.covariance_MCC.diagonal(dim1=1, dim2=2)
    between_C = covariance_CC.diagonal()
    precision_IC = (1 / posterior_IC - 1 / between_C).clamp(min=1e-8)
    target_IC = (item.mean_MC / posterior_IC - prior_IC / between_C) / precision_IC
    total_C = item.mean_MC[is_rated_I].var(0).clamp(min=1e-6)
    weight_IC = total_C / (between_C + 1 / precision_IC) * is_rated_I[:, None]
    return regression.fit(target_IC, weight_IC)
