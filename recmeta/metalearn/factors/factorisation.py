"""Bayesian matrix factorisation with a content prior for items: a start for meta-learners.

    value_ui = b_u + b_i + p_u · q_i + noise
    (b_u, p_u) ~ N(m, Λ⁻¹)        (b_i, q_i) ~ N(content prior of i, Σ)

Variational Bayes (Lim and Teh, KDD Cup 2007; with content as in Agarwal and Chen, KDD 2009): every
user's and item's posterior is a Gaussian in closed form given the others', and m, Λ, Σ and the
noise are fitted, so that nothing has to be tuned but the number of factors. An item that few users
rated stays near its content prior.

Legend: U users, u some of them, I items, M one of both, O the other, N rows, n those of some users,
C = 1 + factors coefficients (bias first), J = C + 1 coefficients of both sides together (user
bias, item bias, factors), T = J (J + 1) / 2 numbers of a triangle.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from recmeta.metalearn.factors.content_prior import ContentPrior, ContentRegression
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array, IntArray, offsets_of
from recmeta.tasks.task_set import Ragged

USER_BIAS, ITEM_BIAS = 0, 1
"""Coordinates of J; the other side of each is the constant 1."""
FIRST_CONTENT_SWEEP = 3
USERS_AT_ONCE = 2**14
"""Users, or items, whose matrices are in memory at once: 43 MB each with 16 factors."""
MEANS_AT_ONCE = 2**18
"""Users, or items, whose means are in memory at once when their covariance is computed."""
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
class _Part:
    """The rows of some consecutive users."""

    users: slice
    item_n: npt.NDArray[np.int32]
    """By user."""
    value_n: Float32Array
    length_u: IntArray
    order_n: npt.NDArray[np.int32]
    """By item, then by user: where each row is."""

    def of_users(self, items: "_Moments") -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over each user's rows of the moments of their items."""
        side = _Side(
            torch.from_numpy(offsets_of(self.length_u)),
            torch.from_numpy(self.item_n.astype(np.int64)),
            torch.from_numpy(self.value_n.astype(np.float64)),
        )
        return side.sums(items)

    def of_items(
        self, users: "_Moments", begun_IT: torch.Tensor, begun_IJ: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over each item's rows of the moments of their users, added to the sums
        over earlier users. A sum continues where it ended, so that it adds the same numbers in the
        same order, however many users are in a part."""
        num_items = len(begun_IT)
        user_n = np.repeat(np.arange(len(self.length_u)), self.length_u)[self.order_n]
        length_I = np.bincount(self.item_n, minlength=num_items)
        first_I = offsets_of(length_I)[:-1]
        own_I = len(self.length_u) + np.arange(num_items)
        side = _Side(
            torch.from_numpy(offsets_of(length_I + 1)),
            torch.from_numpy(np.insert(user_n, first_I, own_I)),
            torch.from_numpy(np.insert(self.value_n[self.order_n].astype(np.float64), first_I, 1)),
        )
        return side.sums(
            _Moments(torch.cat([users.triangle_OT, begun_IT]), torch.cat([users.mean_OJ, begun_IJ]))
        )


@dataclasses.dataclass(frozen=True)
class _Side:
    """The rows of some users (or items), grouped: row n is one of those that offsets surround."""

    offsets: torch.Tensor
    other_n: torch.Tensor
    value_n: torch.Tensor

    def sums(self, other: "_Moments") -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over each member's rows of the other side's expected outer products, as
        triangles (M, T), and of its means times the values (M, J)."""
        return self._sum(other.triangle_OT), self._sum(other.mean_OJ, self.value_n)

    def _sum(self, table_OJ: torch.Tensor, weight_n: torch.Tensor | None = None) -> torch.Tensor:
        return torch.nn.functional.embedding_bag(
            self.other_n,
            table_OJ,
            self.offsets,
            mode="sum",
            per_sample_weights=weight_n,
            include_last_offset=True,
        )


@dataclasses.dataclass(frozen=True)
class _Moments:
    """The moments of one side's vectors, which the other side sums."""

    triangle_OT: torch.Tensor
    """The expected outer products, which are symmetric: one triangle is summed."""
    mean_OJ: torch.Tensor


@dataclasses.dataclass(frozen=True)
class _Gaussians:
    """Posteriors of one side: (M, C) means, (M, C, C) covariances."""

    mean_MC: torch.Tensor
    covariance_MCC: torch.Tensor
    constant: int
    """The coordinate of J that is 1 on this side."""

    @property
    def free(self) -> torch.Tensor:
        return _free(self.mean_MC.shape[1], self.constant)

    def full(self) -> torch.Tensor:
        """Return the means in J coordinates."""
        full_MJ = self.mean_MC.new_ones(len(self.mean_MC), self.mean_MC.shape[1] + 1)
        full_MJ[:, self.free] = self.mean_MC
        return full_MJ

    def second_moments(self) -> torch.Tensor:
        """Return the expected outer products, (M, J, J)."""
        full_MJ = self.full()
        second_MJJ = full_MJ[:, :, None] * full_MJ[:, None, :]
        free = self.free
        second_MJJ[:, free[:, None], free] += self.covariance_MCC
        return second_MJJ

    def moments(self) -> _Moments:
        """Return the moments, in J coordinates."""
        full_MJ = self.full()
        i, j = torch.triu_indices(full_MJ.shape[1], full_MJ.shape[1])
        return _Moments(self.second_moments()[:, i, j], full_MJ)


def _free(width: int, constant: int) -> torch.Tensor:
    """Return the C coordinates of J that are not constant on a side."""
    return torch.tensor([j for j in range(width + 1) if j != constant])


def factorise(
    rows: Ragged, content: ContentRegression, num_items: int, config: FactorisationConfig, seed: int
) -> BayesianFactorisation:
    """Return the factorisation of the users' rows.

    A sweep goes through the users once, some at a time: it finds their posteriors and adds their
    moments to the sums of the items, so that the covariances of all users are never in memory.

    Args:
        rows: per user; the values have a mean near 0 and a standard deviation near 1.
        content: the regression over the same items.
        seed: draws the initial vectors.
    """
    parts = _parts(rows)
    width = config.num_factors + 1
    generator = torch.Generator().manual_seed(seed)
    noise_IC = 0.1 * torch.randn((num_items, width), generator=generator, dtype=torch.float64)
    noise_IC[:, 0] = 0.0
    eye = torch.eye(width, dtype=torch.float64)
    user_prior = _Prior(
        torch.zeros(width, dtype=torch.float64),
        eye * torch.tensor([0.2] + [1.0] * config.num_factors),
    )
    item_covariance = eye * torch.tensor([0.1] + [0.05] * config.num_factors)
    prior = content.before(width)
    item = _Gaussians(noise_IC + prior.fitted_IC, (1e-3 * eye).expand(num_items, -1, -1), USER_BIAS)
    is_rated = torch.from_numpy(scratch.counts(rows.item, num_items) > 0)
    noise = 0.6
    for sweep in range(config.sweeps):
        triangle_IT, moment_IJ, user_prior, noise = _through_users(parts, item, user_prior, noise)
        item = _posterior(
            triangle_IT, moment_IJ, _Prior(prior.fitted_IC, item_covariance), noise, USER_BIAS
        )
        is_last = sweep == config.sweeps - 1
        if sweep % CONTENT_SWEEPS == FIRST_CONTENT_SWEEP or is_last:
            prior = _content(content, item, prior.fitted_IC, item_covariance, is_rated)
        mean_GC, covariance_GCC = item.mean_MC[is_rated], item.covariance_MCC[is_rated]
        expected_GC = prior.fitted_IC[is_rated]
        item_covariance = _spread(mean_GC, expected_GC, covariance_GCC.mean(0))
    found_IC = torch.where(is_rated[:, None], item.mean_MC, prior.fitted_IC)
    return BayesianFactorisation(
        item_IC=found_IC,
        item_covariance_ICC=item.covariance_MCC,
        content=prior,
        user_mean_C=user_prior.mean,
        user_covariance_CC=user_prior.covariance_CC,
        noise=noise,
    )


@dataclasses.dataclass(frozen=True)
class _Prior:
    """The prior of one side's vectors."""

    mean: torch.Tensor
    """(C,) for all, or (M, C)."""
    covariance_CC: torch.Tensor


def _parts(rows: Ragged) -> list[_Part]:
    """Return the rows by some users at a time."""
    order_N = scratch.joined(
        (np.argsort(some.item, kind="stable") for some in rows.batches(USERS_AT_ONCE)), np.int32
    )
    found, first, num_rows = [], 0, 0
    for some in rows.batches(USERS_AT_ONCE):
        users, order_n = slice(first, first + len(some)), order_N[num_rows:][: len(some.item)]
        found.append(_Part(users, some.item, some.value, some.lengths, order_n))
        first, num_rows = users.stop, num_rows + len(some.item)
    return found


def _through_users(
    parts: Sequence[_Part], item: _Gaussians, prior: _Prior, noise: float
) -> tuple[torch.Tensor, torch.Tensor, _Prior, float]:
    """Return the sums over the items' rows of the users' moments (I, T) and (I, J), the prior that
    fits the users' posteriors, and the variance of the noise."""
    width = len(prior.mean)
    moments = item.moments()
    num_users = parts[-1].users.stop
    mean_UC = torch.from_numpy(scratch.empty((num_users, width), np.float64))
    covariance_CC = prior.mean.new_zeros(width, width)
    explained = squares = prior.mean.new_zeros(())
    triangle_IT = torch.zeros_like(moments.triangle_OT)
    moment_IJ = torch.zeros_like(moments.mean_OJ)
    for part in parts:
        triangle_uT, moment_uJ = part.of_users(moments)
        user = _posterior(triangle_uT, moment_uJ, prior, noise, ITEM_BIAS)
        mean_UC[part.users] = user.mean_MC
        covariance_CC += user.covariance_MCC.sum(0)
        gram_uJJ = _symmetric(triangle_uT, width + 1)
        explained = explained + (
            2 * (user.full() * moment_uJ).sum() - (gram_uJJ * user.second_moments()).sum()
        )
        squares = squares + torch.from_numpy(part.value_n.astype(np.float64)).square().sum()
        triangle_IT, moment_IJ = part.of_items(user.moments(), triangle_IT, moment_IJ)
    num_rows = sum(len(part.item_n) for part in parts)
    mean_C = mean_UC.mean(0)
    spread_CC = _spread(mean_UC, mean_C, covariance_CC / num_users)
    return (
        triangle_IT,
        moment_IJ,
        _Prior(mean_C, spread_CC),
        float((squares - explained) / num_rows),
    )


def _symmetric(triangle_MT: torch.Tensor, width: int) -> torch.Tensor:
    """Return the matrices (M, J, J) of triangles."""
    i, j = torch.triu_indices(width, width)
    gram_MJJ = triangle_MT.new_empty(len(triangle_MT), width, width)
    gram_MJJ[:, i, j] = triangle_MT
    gram_MJJ[:, j, i] = triangle_MT
    return gram_MJJ


def _posterior(
    triangle_MT: torch.Tensor, moment_MJ: torch.Tensor, prior: _Prior, noise: float, constant: int
) -> _Gaussians:
    """Return one side's posteriors given the sums of the other's moments.

    Args:
        constant: the coordinate of J that is 1 on this side.
    """
    precision_CC = torch.linalg.inv(prior.covariance_CC)
    width = len(precision_CC)
    free = _free(width, constant)
    prior_MC = prior.mean.expand(len(moment_MJ), -1)
    mean_MC = moment_MJ.new_empty(len(moment_MJ), width)
    covariance_MCC = moment_MJ.new_empty(len(moment_MJ), width, width)
    for start in range(0, len(moment_MJ), USERS_AT_ONCE):
        some = slice(start, start + USERS_AT_ONCE)
        gram_mJJ = _symmetric(triangle_MT[some], width + 1)
        linear_mC = (moment_MJ[some][:, free] - gram_mJJ[:, free, constant]) / noise
        known_mCC = gram_mJJ[:, free[:, None], free] / noise
        factor = torch.linalg.cholesky(known_mCC + precision_CC)
        covariance_MCC[some] = torch.cholesky_inverse(factor)
        right_mC = linear_mC + prior_MC[some] @ precision_CC
        mean_MC[some] = (covariance_MCC[some] @ right_mC[..., None])[..., 0]
    return _Gaussians(mean_MC, covariance_MCC, constant)


def _spread(
    mean_MC: torch.Tensor, expected: torch.Tensor, covariance_CC: torch.Tensor
) -> torch.Tensor:
    """Return the expected covariance (C, C) of one side's vectors.

    Args:
        expected: what their means were expected to be: (C,) for all, or (M, C).
        covariance_CC: mean of their covariances.
    """
    total_CC = torch.zeros_like(covariance_CC)
    expected_MC = expected.expand_as(mean_MC)
    for first in range(0, len(mean_MC), MEANS_AT_ONCE):
        some = slice(first, first + MEANS_AT_ONCE)
        apart_mC = mean_MC[some] - expected_MC[some]
        total_CC += apart_mC.T @ apart_mC
    return total_CC / len(mean_MC) + covariance_CC


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
