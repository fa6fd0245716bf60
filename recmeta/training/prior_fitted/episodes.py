"""What the prior is fitted to: a synthetic log's statistics, and users who are not in it.

Legend: B users, S support rows (padded), M candidates of each user, D item statistics.
"""

import dataclasses

import numpy as np
import torch

from recmeta.metalearn.learner import Params
from recmeta.metalearn.prior_fitted.log_statistics import LogRows, log_statistics, recencies
from recmeta.metalearn.tensors.batch import POPULARITY_SCALE
from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.training.prior_fitted.synthetic_logs import DrawnLog

SHOTS = (0, 1, 2, 3, 5, 10, 20, 50)
MOST_QUERY, FEWEST_QUERY = 10, 5
"""Rows after the support that a user is asked about, where the user has so many."""
NUM_SAMPLED = 250
"""Items of the catalogue that stand for all of them among a user's candidates."""
ITEM_PRIOR = 10.0
"""Users of the mean value that an item's mean is averaged with, as `ModelConfig.prior_strength`."""
LIKED_SHARE = 0.6
"""Of the range of values: ratings from there on are liked, as in the metrics of lists."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
    """Held-out users of one log."""

    statistics: Params
    """Of the log, by name."""
    is_graded: bool
    code_BS: torch.Tensor
    value_BS: torch.Tensor
    past_BSD: torch.Tensor
    mask_BS: torch.Tensor
    candidate_BM: torch.Tensor
    """int64 codes."""
    past_BMD: torch.Tensor
    log_weight_BM: torch.Tensor
    """The logarithm of how many items a candidate stands for; -inf where there is none."""
    liked_BM: torch.Tensor
    """bool, the candidates that the user took next and liked."""
    rated_BM: torch.Tensor
    """bool, the candidates whose value is known."""
    value_BM: torch.Tensor
    """In units of the model."""

    def __len__(self) -> int:
        return len(self.code_BS)


def episode(log: DrawnLog, is_held_U: BoolArray, generator: np.random.Generator) -> Episode | None:
    """Return what the held-out users of a log did, as the network is shown it; None where none of
    them liked anything.

    Args:
        is_held_U: users whose rows the log's statistics do not count.
        generator: draws how many rows of each are known, and the candidates.
    """
    is_held = is_held_U[log.user]
    value = log.value.copy()
    mean, scale = 0.0, 1.0
    if log.is_graded:
        known = value[~is_held]
        mean, scale = float(known.mean()), max(float(known.std()), 1e-3)
        value = (value - mean) / scale
    lowest, highest = float(log.value.min()), float(log.value.max())
    liked_from = (lowest + LIKED_SHARE * (highest - lowest) - mean) / scale
    if not log.is_graded:
        liked_from = -np.inf
    statistics = log_statistics(
        _rows(log, ~is_held, value), log.num_items + 1, int(generator.integers(2**31))
    )
    past_CD = _past(log, ~is_held, value)
    users = [_User.of(log, u, value, generator) for u in np.flatnonzero(is_held_U).tolist()]
    users = [u for u in users if (u.query_value >= liked_from).any()]
    if not users:
        return None
    catalogue = np.arange(1, log.num_items + 1)
    sides = [u.candidates(catalogue, generator) for u in users]
    candidate_BM, mask_BM = _padded([c for c, _ in sides])
    log_weight_BM, _ = _padded([w for _, w in sides])
    query_BQ, is_query_BQ = _padded([u.query for u in users])
    value_BQ, _ = _padded([u.query_value for u in users])
    num_query = query_BQ.shape[1]
    rated_BM = np.zeros(candidate_BM.shape, np.bool_)
    rated_BM[:, :num_query] = is_query_BQ  # candidates begin with the query
    value_BM = np.zeros(candidate_BM.shape)
    value_BM[:, :num_query] = value_BQ
    code_BS, mask_BS = _padded([u.support for u in users])
    value_BS, _ = _padded([u.support_value for u in users])
    return Episode(
        statistics=statistics,
        is_graded=log.is_graded,
        code_BS=torch.from_numpy(code_BS.astype(np.int64)),
        value_BS=torch.from_numpy(value_BS.astype(np.float32)),
        past_BSD=past_CD[code_BS.astype(np.int64)],
        mask_BS=torch.from_numpy(mask_BS),
        candidate_BM=torch.from_numpy(candidate_BM.astype(np.int64)),
        past_BMD=past_CD[candidate_BM.astype(np.int64)],
        log_weight_BM=torch.from_numpy(np.where(mask_BM, log_weight_BM, -np.inf)).float(),
        liked_BM=torch.from_numpy(rated_BM & (value_BM >= liked_from)),
        rated_BM=torch.from_numpy(rated_BM),
        value_BM=torch.from_numpy(value_BM).float(),
    )


@dataclasses.dataclass(frozen=True)
class _User:
    """A held-out user: codes and values of what is known and of what comes next."""

    support: IntArray
    support_value: Float64Array
    query: IntArray
    query_value: Float64Array

    @classmethod
    def of(
        cls, log: DrawnLog, user: int, value: Float64Array, generator: np.random.Generator
    ) -> "_User":
        first, last = np.searchsorted(log.user, [user, user + 1])
        code, own = log.item[first:last] + 1, value[first:last]
        num_known = min(int(generator.choice(SHOTS)), max(0, len(code) - FEWEST_QUERY))
        query = slice(num_known, num_known + MOST_QUERY)
        return cls(code[:num_known], own[:num_known], code[query], own[query])

    def candidates(
        self, catalogue: IntArray, generator: np.random.Generator
    ) -> tuple[IntArray, Float64Array]:
        """Return the query's items and a sample of all others but the support's, and the logarithm
        of how many items each stands for. Items that the user takes after the query are among the
        others: they were not next."""
        others = np.setdiff1d(catalogue, np.concatenate([self.support, self.query]))
        sample = others
        if len(others) > NUM_SAMPLED:
            sample = generator.choice(others, NUM_SAMPLED, replace=False)
        weight = np.log(max(len(others), 1) / max(len(sample), 1))
        found = np.concatenate([self.query, sample])
        return found, np.concatenate([np.zeros(len(self.query)), np.full(len(sample), weight)])


def _rows(log: DrawnLog, kept: BoolArray, value: Float64Array) -> LogRows:
    """Return the rows of a log that its statistics count."""
    users, user = np.unique(log.user[kept], return_inverse=True)
    recency = recencies(log.time_U[users][user]) if log.has_times else None
    return LogRows(user, log.item[kept] + 1, value[kept], recency)


def _past(log: DrawnLog, kept: BoolArray, value: Float64Array) -> torch.Tensor:
    """Return (C, D) the statistics of items as learners see them; of ratings in units of the model,
    of implicit feedback popularity alone."""
    code = log.item[kept] + 1
    count_C = np.bincount(code, minlength=log.num_items + 1)
    mean_C = np.zeros(len(count_C))
    if log.is_graded:
        mean_C = np.bincount(code, value[kept], minlength=len(count_C)) / (count_C + ITEM_PRIOR)
    popularity_C = np.log1p(count_C) / POPULARITY_SCALE
    return torch.from_numpy(np.stack([mean_C, popularity_C], 1).astype(np.float32))


def _padded(parts: list[np.ndarray]) -> tuple[np.ndarray, BoolArray]:
    """Return parts side by side, (B, longest), and where they are not padded."""
    length_B = np.array([len(part) for part in parts])
    mask = np.arange(max(1, length_B.max())) < length_B[:, None]
    found = np.zeros(mask.shape)
    found[mask] = np.concatenate(parts)
    return found, mask
