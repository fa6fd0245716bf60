"""User-to-user nearest neighbours (Resnick et al., CSCW 1994; Herlocker et al., SIGIR 1999).

Legend: B users to score, N query rows, U training users, M rows of these, I items.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, fixed
from recmeta.evaluation.baseline_parts.lists_of_ratings import with_lists_of_ratings
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.baselines.averages.item_mean_user_bias import (
    ItemMeanUserBias,
    upon_biases,
)
from recmeta.evaluation.baselines.item_to_item.ease import residuals
from recmeta.tasks.arrays import Float64Array, IntArray, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks

MOST_USERS = 20_000
"""More training users are thinned out evenly: with this many, every user has neighbours."""
MAX_CELLS = 2**23  # the most similarities or scores held at once: 32 MiB


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserKNNConfig:
    """The number of neighbours, and how strongly similarities and predictions are shrunk."""

    num_neighbours: int = 100
    """K, the number of most similar training users who count."""
    shrinkage: float = 0.0
    """A similarity that n items support is multiplied by n / (n + this); at least 0."""
    prediction_shrinkage: float = 1.0
    """For ratings, this is added to the sum of similarities in the denominator; at least 0."""

    def __post_init__(self) -> None:
        if self.num_neighbours < 1:
            raise UserError(f"num_neighbours is {self.num_neighbours}; it must be at least 1.")
        if self.shrinkage < 0 or self.prediction_shrinkage < 0:
            raise UserError(
                f"shrinkage {self.shrinkage} and prediction_shrinkage {self.prediction_shrinkage} "
                "must not be negative."
            )


@dataclasses.dataclass(frozen=True)
class TrainingUsers:
    """The rows of possible neighbours, by user and by item."""

    item_M: torch.Tensor
    offset_U: torch.Tensor
    """(U + 1,)"""
    value_M: torch.Tensor
    """The residuals of the values after the biases, or 1 for implicit feedback."""
    norm_U: torch.Tensor
    user_M: torch.Tensor
    """Sorted by item."""
    offset_I: torch.Tensor
    """(I + 1,)"""
    value_by_item_M: torch.Tensor

    @classmethod
    def of(cls, rows: Ragged, value_M: Float64Array, num_items: int) -> "TrainingUsers":
        """Return the rows, with these values (M,), sorted by user and by item."""
        value = torch.from_numpy(value_M.astype(np.float32))
        square_U = np.bincount(rows.task, value_M**2, minlength=len(rows))
        order = np.argsort(rows.item, kind="stable")
        return cls(
            torch.from_numpy(rows.item.astype(np.int64)),
            torch.from_numpy(rows.offsets.astype(np.int64)),
            value,
            torch.from_numpy(np.sqrt(square_U).astype(np.float32)).clamp(min=1e-6),
            torch.from_numpy(rows.task[order].astype(np.int64)),
            torch.from_numpy(offsets_of(np.bincount(rows.item, minlength=num_items))),
            value[torch.from_numpy(order)],
        )

    def by_user(self, table_IB: torch.Tensor, weight_M: torch.Tensor | None) -> torch.Tensor:
        """Return (U, B) the weighted sum over each training user's items."""
        return _sums(self.item_M, table_IB, self.offset_U, weight_M)

    def by_item(self, table_UB: torch.Tensor, weight_M: torch.Tensor | None) -> torch.Tensor:
        """Return (I, B) the weighted sum over each item's training users."""
        return _sums(self.user_M, table_UB, self.offset_I, weight_M)

    def of_items(self, item_J: IntArray) -> "TrainingUsers":
        """Return the same users with only the rows of some items, which `by_item` then sums."""
        offset_I = self.offset_I.numpy()
        length_J = offset_I[item_J + 1] - offset_I[item_J]
        offset_J = offsets_of(length_J)
        row = np.arange(offset_J[-1]) + np.repeat(offset_I[item_J] - offset_J[:-1], length_J)
        return dataclasses.replace(
            self,
            user_M=self.user_M[torch.from_numpy(row)],
            offset_I=torch.from_numpy(offset_J),
            value_by_item_M=self.value_by_item_M[torch.from_numpy(row)],
        )


@dataclasses.dataclass(frozen=True)
class UserKNN:
    """Scores an item by those of the nearest training users who met it.

    Similarity is the cosine of the users' rows, or 0 if one has none; negative ones are dropped,
    and the K largest count. For ratings the rows are the residuals after the biases, and the
    prediction is that of the biases plus sum s e / (sum s + prediction_shrinkage) over the
    neighbours who rated the item, e being their residuals. For implicit feedback the score is the
    sum of the similarities of the neighbours who met it.
    """

    users: TrainingUsers
    num_items: int
    config: UserKNNConfig
    biases: ItemMeanUserBias | None
    """The biases, or None for implicit feedback."""
    name: ClassVar[str] = "user-knn"

    @property
    def predicts_values(self) -> bool:
        """Whether it was fitted to ratings."""
        return self.biases is not None

    @classmethod
    def fit_all(
        cls,
        train: Tasks,
        num_items: int,
        configs: Sequence[UserKNNConfig],
        biases: ItemMeanUserBias | None = None,
    ) -> Iterator["UserKNN"]:
        """Yield a fit per configuration; all share the rows.

        Args:
            train: meta-training tasks; support and query rows are the data.
            biases: the biases fitted to the same rows for ratings, or None for implicit feedback.
        """
        rows = training_rows(train)
        if len(rows) > MOST_USERS:
            rows = rows.take(np.linspace(0, len(rows) - 1, MOST_USERS).astype(np.int64))
        users = TrainingUsers.of(rows, _values(rows, biases), num_items)
        for config in configs:
            yield cls(users, num_items, config, biases)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) a score for every query row, clipped to the value range for ratings."""
        parts = [self._batch_query(batch) for batch in tasks.batches(self._users_at_once)]
        score_N = np.concatenate(parts) if parts else np.zeros(0)
        if self.biases is None:
            return score_N
        query = tasks.query
        user_N = self.biases.user_bias(tasks.support)[query.task]
        base_N = self.biases.mean + self.biases.item_bias[query.item] + user_N
        return np.clip(base_N + score_N, *self.biases.value_range)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) scores of the whole catalogue, not clipped."""
        parts = [
            self._voted(batch.support, self.users).T.double().numpy()
            for batch in tasks.batches(self._users_at_once)
        ]
        scores_BI = np.concatenate(parts) if parts else np.zeros((0, self.num_items))
        return scores_BI if self.biases is None else scores_BI + self.biases.score_items(tasks)

    @property
    def _users_at_once(self) -> int:
        return max(1, MAX_CELLS // max(self.num_items, len(self.users.norm_U)))

    def _batch_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) the neighbours' votes for the query rows, computed for their items alone."""
        item_J, place_N = np.unique(tasks.query.item, return_inverse=True)
        voted_JB = self._voted(tasks.support, self.users.of_items(item_J.astype(np.int64)))
        return np.asarray(voted_JB.double().numpy()[place_N, tasks.query.task])

    def _voted(self, support: Ragged, users: TrainingUsers) -> torch.Tensor:
        """Return (J, B) the votes of the nearest of some training users for the items that these
        have."""
        near_UB = self._nearest(support)
        if self.biases is None:
            return users.by_item(near_UB, None)
        voted_JB = users.by_item(near_UB, users.value_by_item_M)
        weight_JB = users.by_item(near_UB, None) + self.config.prediction_shrinkage
        return voted_JB / weight_JB.clamp(min=1e-12)

    def _nearest(self, support: Ragged) -> torch.Tensor:
        """Return (U, B) similarities, with all but the nearest set to 0."""
        value_S = _values(support, self.biases)
        table_IB = torch.zeros((self.num_items, len(support)))
        where = torch.from_numpy(support.item.astype(np.int64)), torch.from_numpy(support.task)
        table_IB[where] = torch.from_numpy(value_S.astype(np.float32))
        norm_B = table_IB.square().sum(0).sqrt().clamp(min=1e-6)
        product_UB = self.users.by_user(
            table_IB, None if self.biases is None else self.users.value_M
        )
        near_UB = (product_UB / norm_B / self.users.norm_U[:, None]).clamp(min=0.0)
        if self.config.shrinkage > 0:
            table_IB[where] = 1.0
            both_UB = self.users.by_user(table_IB, None)
            near_UB *= both_UB / (both_UB + self.config.shrinkage)
        if self.config.num_neighbours >= len(near_UB):
            return near_UB
        value_BK, place_BK = near_UB.T.contiguous().topk(self.config.num_neighbours, dim=1)
        return torch.zeros_like(near_UB).scatter_(0, place_BK.T, value_BK.T)


def _values(rows: Ragged, biases: ItemMeanUserBias | None) -> Float64Array:
    """Return (N,) the values by which users are compared."""
    return np.ones(len(rows.item)) if biases is None else residuals(rows, biases)


def _sums(
    row_M: torch.Tensor, table: torch.Tensor, offset: torch.Tensor, weight_M: torch.Tensor | None
) -> torch.Tensor:
    return torch.nn.functional.embedding_bag(
        row_M,
        table,
        offset,
        mode="sum",
        per_sample_weights=weight_M,
        include_last_offset=True,
    )


RATING_GRID = tuple(
    UserKNNConfig(shrinkage=s, num_neighbours=k, prediction_shrinkage=p)
    for s, k, p in itertools.product((10.0, 50.0), (50, 200, 1000), (0.2, 1.0))
)
IMPLICIT_GRID = tuple(
    UserKNNConfig(shrinkage=s, num_neighbours=k)
    for s, k in itertools.product((0.0, 10.0), (25, 50, 100, 200, 400))
)


_fit_all = upon_biases(UserKNN.fit_all)


BASELINE = with_lists_of_ratings(
    Baseline(
        name=UserKNN.name,
        candidates=fixed(*IMPLICIT_GRID),
        fit_all=_fit_all,
        default=lambda search: UserKNNConfig(),
        objectives=("implicit",),
        known_items_only=True,
    ),
    Baseline(
        name=UserKNN.name,
        candidates=fixed(*RATING_GRID),
        fit_all=_fit_all,
        default=lambda search: UserKNNConfig(num_neighbours=200, shrinkage=10.0),
        known_items_only=True,
    ),
)
