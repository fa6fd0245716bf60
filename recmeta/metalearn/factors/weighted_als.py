"""Weighted alternating least squares on implicit feedback (Hu, Koren, Volinsky, ICDM 2008).

    min  Σ_ui c_ui (r_ui - p_u · q_i)² + λ (Σ_u |p_u|² + Σ_i |q_i|²)

r is 1 and c the confidence where user u met item i; everywhere else r is 0 and c is 1. The cost of
the pairs that never met is the same for all users, the Gram matrix of the item vectors: in the
coordinates in which that matrix plus the ridge is the identity, a user with n rows is folded in by
a system of min(n, F) equations.

Legend: U users, I items, M members of one side, O of the other, N rows, F factors, K folds.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from recmeta.tasks import scratch
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.task_set import Ragged

PADDING = 1.2
"""The longest member of a group has at most this many times the rows of the shortest."""
MOST_NUMBERS = 200_000
"""The most numbers in a group's gathered vectors, so that they fit into a core's cache."""

MOST_OF_USERS = 2**25
"""The most numbers in the vectors of all users, of which a sweep holds three copies: half a million
users with 64 factors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedALSConfig:
    """The factorisation."""

    num_factors: int = 128
    """F"""
    regularisation: float = 10.0
    """λ: ridge weight of every factor."""
    confidence: float = 4.0
    """c of a pair that met, which must be above 1."""
    sweeps: int = 8
    """Alternations between users and items."""
    fold_in_ratio: float = 1.0
    """The ratio of a new user's λ to that of the training users."""

    def __post_init__(self) -> None:
        if self.num_factors < 1 or self.sweeps < 1:
            raise ValueError(
                f"num_factors {self.num_factors} and sweeps {self.sweeps} must be positive."
            )
        if not (self.regularisation > 0 and self.fold_in_ratio > 0 and self.confidence > 1):
            raise ValueError(
                f"regularisation {self.regularisation} and fold_in_ratio {self.fold_in_ratio} must "
                f"be positive, confidence {self.confidence} above 1."
            )


@dataclasses.dataclass(frozen=True)
class _WeightedSide:
    """The rows of each of the M members: which of the O others it met."""

    length_M: IntArray
    other_N: npt.NDArray[np.integer]
    """The others that were met, laid end to end."""

    def groups(self, num_factors: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield groups of members with similar numbers of rows, those without rows left out: the
        members' numbers (G,), the others that they met (G, R), padded with 0, and the mask (G,
        R)."""
        first_M = np.cumsum(self.length_M) - self.length_M
        order = np.argsort(self.length_M, kind="stable")
        order = order[self.length_M[order] > 0]
        length = self.length_M[order]
        start = 0
        while start < len(order):
            longest = int(length[start] * PADDING) + 1
            most = max(8, MOST_NUMBERS // (longest * num_factors))
            stop = min(int(np.searchsorted(length, longest, side="right")), start + most)
            member, place = order[start:stop], np.arange(length[stop - 1])
            mask = place < length[start:stop, None]
            row = np.where(mask, first_M[member][:, None] + place, 0)
            other = torch.from_numpy(self.other_N[row].astype(np.int64))
            yield torch.from_numpy(member), other, torch.from_numpy(mask)
            start = stop


def factorise_weighted(
    rows: Ragged, num_items: int, config: WeightedALSConfig, seed: int
) -> torch.Tensor:
    """Return the items' vectors (I, F), float32; 0 for an item without rows.

    Args:
        rows: per user, which items they met; values are not read. Of very many users, some are
            drawn (`MOST_OF_USERS`).
        seed: of the starting vectors, and of the users who are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    start_IF = 0.01 * torch.randn((num_items, config.num_factors), generator=generator)
    users = _some_users(len(rows), config, seed)
    rows = rows if users is None else rows.take(users)
    is_met_I = torch.from_numpy(scratch.counts(rows.item, num_items) > 0)
    return _alternated(rows, start_IF * is_met_I[:, None], config, config.sweeps)


def left_out_factors(
    rows: Ragged,
    item_IF: torch.Tensor,
    config: WeightedALSConfig,
    num_folds: int,
    seed: int,
    sweeps: int = 3,
) -> torch.Tensor:
    """Return the items' vectors fitted without the users of each fold, (K, I, F); user u is in fold
    u mod K.

    Each fold continues for a few sweeps from the vectors of all users, so that its axes keep their
    meaning.

    Args:
        rows: as for `factorise_weighted`.
        seed: draws the users, where there are very many.
    """
    fold_U = np.arange(len(rows)) % num_folds
    users = _some_users(len(rows), config, seed)
    if users is not None:
        rows, fold_U = rows.take(users), fold_U[users]
    return torch.stack(
        [
            _alternated(rows.select(fold_U[rows.task] != fold), item_IF, config, sweeps)
            for fold in range(num_folds)
        ]
    )


def fold_in(
    rows: Ragged, item_IF: torch.Tensor, config: WeightedALSConfig, regularisation: float
) -> torch.Tensor:
    """Return the vectors (U, F) of users who met these items; 0 for a user who met none."""
    return _solve(_by_user(rows), item_IF, config.confidence, regularisation)


def _some_users(num_users: int, config: WeightedALSConfig, seed: int) -> IntArray | None:
    """Return the positions of the users from whom items are learned, or None for all."""
    most = MOST_OF_USERS // config.num_factors
    if num_users <= most:
        return None
    return np.sort(np.random.default_rng(seed).choice(num_users, most, replace=False))


def _alternated(
    rows: Ragged, item_IF: torch.Tensor, config: WeightedALSConfig, sweeps: int
) -> torch.Tensor:
    users, items = _by_user(rows), _by_item(rows, len(item_IF))
    for _ in range(sweeps):
        user_UF = _solve(users, item_IF, config.confidence, config.regularisation)
        item_IF = _solve(items, user_UF, config.confidence, config.regularisation)
    return item_IF


def _solve(
    side: _WeightedSide, table_OF: torch.Tensor, confidence: float, regularisation: float
) -> torch.Tensor:
    """Return the vectors (M, F) of one side given the other's."""
    num_factors = table_OF.shape[1]
    gram_FF = table_OF.T @ table_OF
    gram_FF.diagonal().add_(regularisation)
    factor_FF = torch.linalg.cholesky(gram_FF)
    white_OF = torch.linalg.solve_triangular(factor_FF, table_OF.T, upper=False).T.contiguous()
    found_MF = table_OF.new_zeros(len(side.length_M), num_factors)
    for member_G, other_GR, mask_GR in side.groups(num_factors):
        met_GRF = white_OF[other_GR] * mask_GR[..., None]
        wanted_GR1 = confidence * mask_GR[..., None].to(met_GRF.dtype)
        if met_GRF.shape[1] <= num_factors:
            system = (confidence - 1) * (met_GRF @ met_GRF.mT)
            system.diagonal(dim1=1, dim2=2).add_(1.0)
            weight_GR1 = torch.cholesky_solve(wanted_GR1, torch.linalg.cholesky(system))
            found_MF[member_G] = (met_GRF.mT @ weight_GR1)[..., 0]
        else:
            system = (confidence - 1) * (met_GRF.mT @ met_GRF)
            system.diagonal(dim1=1, dim2=2).add_(1.0)
            moment_GF1 = met_GRF.mT @ wanted_GR1
            found_MF[member_G] = torch.cholesky_solve(moment_GF1, torch.linalg.cholesky(system))[
                ..., 0
            ]
    turned_FM: torch.Tensor = torch.linalg.solve_triangular(factor_FF.T, found_MF.T, upper=True)
    return turned_FM.T.contiguous()


def _by_user(rows: Ragged) -> _WeightedSide:
    return _WeightedSide(rows.lengths, rows.item)


def _by_item(rows: Ragged, num_items: int) -> _WeightedSide:
    order_N, first_I = scratch.sorted_by(rows.item, num_items)
    task_N = np.repeat(np.arange(len(rows), dtype=np.int32), rows.lengths)
    user_N = scratch.joined((task_N[order_n] for order_n in scratch.pieces(order_N)), np.int32)
    return _WeightedSide(np.diff(first_I), user_N)
