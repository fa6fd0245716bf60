"""The features of a row for models that need a summary of the support, because they cannot read one
of any length.

Legend: N query rows, B tasks, I items, F columns.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from recmeta.evaluation.baseline_parts.item_content import item_content
from recmeta.evaluation.baseline_parts.rows import (
    mean_value,
    sum_by_item,
    sum_by_task,
    training_rows,
)
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.item_files import Items
from recmeta.tasks.task_set import Ragged, Tasks

NUM_FOLDS = 5
CONTENT_RIDGE, ITEM_SHRINKAGE, USER_SHRINKAGE = 30.0, 3.0, 6.0
USERS_AT_ONCE = 128
NUM_CONTENT_COLUMNS = 32  # columns of the item, which the trees read unchanged


@dataclasses.dataclass(frozen=True)
class SupportFeatures:
    """The statistics of items and users, with which a support is summarised."""

    mean: float
    count_I: Float64Array
    """The number of training rows of each item."""
    left_I: Float64Array
    """The sum of their values minus the mean."""
    by_content_I: Float64Array
    """The prediction for an item from its content, learned from other items."""
    content_IF: torch.Tensor
    encoder: Encoder
    value_range: tuple[float, float]

    @property
    def num_items(self) -> int:
        """I"""
        return len(self.count_I)

    @classmethod
    def fit(
        cls, train: Tasks, items: Items, num_items: int, value_range: tuple[float, float]
    ) -> "SupportFeatures":
        """Return the statistics of the support and query rows of training tasks."""
        rows = training_rows(train)
        mean = mean_value(rows)
        left_I = sum_by_item(rows, rows.value.astype(np.float64) - mean, num_items)
        count_I = np.bincount(rows.item, minlength=num_items).astype(np.float64)
        content_IF, _ = item_content(items)
        encoder = Encoder.fit(
            train.profile,
            items.item_id.slice(0, 0),
            items.attributes.slice(0, 0),
            rows.value,
            FeatureConfig(item_features=(), use_item_id=False),
        )
        by_content_I = _out_of_fold(content_IF.double(), left_I, count_I)
        return cls(mean, count_I, left_I, by_content_I, content_IF, encoder, value_range)

    def of(self, tasks: Tasks, *, strangers: bool) -> tuple[Float64Array, Float64Array]:
        """Return (N,) item effect plus user bias, and (N, F) features of every query row.

        A row that is itself part of its item's statistics (`counted`) is taken out of them.

        Args:
            strangers: whether items are read by their content alone, as if they were new.
        """
        support, query = tasks.support, tasks.query
        effect_S, _ = self._effects(support, strangers)
        effect_N, count_N = self._effects(query, strangers)
        left_S = support.value - self.mean - effect_S
        num_B = support.lengths.astype(np.float64)
        bias_B = sum_by_task(support, left_S) / (num_B + USER_SHRINKAGE)
        square_B = sum_by_task(support, (left_S - bias_B[support.task]) ** 2)
        spread_B = np.sqrt(square_B / np.maximum(num_B, 1))
        affinity_N = self._affinity(tasks, left_S - bias_B[support.task])
        task = query.task
        summary = [effect_N, np.log1p(count_N), self.by_content_I[query.item], affinity_N]
        summary += [of_user[task] for of_user in (bias_B, num_B, spread_B)]
        profile = self.encoder.encode_users(tasks.profile)
        summary += [codes.numpy()[task] for codes in profile.values() if codes.ndim == 1]
        content_NF = self.content_IF[torch.from_numpy(query.item.astype(np.int64))]
        frequent = self.content_IF.abs().sum(0).argsort(descending=True)[:NUM_CONTENT_COLUMNS]
        matrix_NF = np.column_stack([*summary, content_NF[:, frequent].numpy()])
        return self.mean + effect_N + bias_B[task], matrix_NF

    def whole_catalogue(self, tasks: Tasks) -> Iterator[Tasks]:
        """Yield each task with every item of the catalogue as query."""
        everything = np.arange(self.num_items, dtype=np.int32)
        for place in range(len(tasks)):
            query = Ragged(
                np.array([0, self.num_items]),
                everything,
                np.zeros(self.num_items, np.float32),
                np.zeros(self.num_items, np.bool_),
            )
            yield dataclasses.replace(tasks.take(np.array([place])), query=query)

    def _effects(self, rows: Ragged, strangers: bool) -> tuple[Float64Array, Float64Array]:
        """Return (N,) each row's item effect without the row itself, and the number of rows that it
        rests on."""
        by_content_N = self.by_content_I[rows.item]
        if strangers:
            return by_content_N, np.zeros(len(rows.item))
        own_N = rows.counted.astype(np.float64)
        count_N = self.count_I[rows.item] - own_N
        own_left_N = np.where(rows.counted, rows.value - self.mean, 0.0)
        left_N = self.left_I[rows.item] - own_left_N
        beside_N = (left_N - count_N * by_content_N) / (count_N + ITEM_SHRINKAGE)
        return by_content_N + beside_N, count_N

    def _affinity(self, tasks: Tasks, left_S: Float64Array) -> Float64Array:
        """Return (N,) the mean of the support's residuals, weighted by similarity of content."""
        support = tasks.support
        parts = [np.zeros(0)]
        for first in range(0, len(tasks), USERS_AT_ONCE):
            batch = tasks.take(np.arange(first, min(first + USERS_AT_ONCE, len(tasks))))
            known, asked = batch.support, batch.query
            content_BSF = self.content_IF[_padded(known)]
            content_BRF = self.content_IF[_padded(asked)]
            likeness_BRS = (content_BRF @ content_BSF.transpose(1, 2)).clamp(min=0).numpy()
            left_BS, is_row_BS = np.zeros((2, len(batch), likeness_BRS.shape[2]))
            start = support.offsets[first]
            left_BS[known.task, known.position] = left_S[start : start + len(known.item)]
            is_row_BS[known.task, known.position] = 1.0
            total_BR = np.einsum("brs,bs->br", likeness_BRS, left_BS)
            weight_BR = np.einsum("brs,bs->br", likeness_BRS, is_row_BS) + 1.0
            parts.append((total_BR / weight_BR)[asked.task, asked.position])
        return np.concatenate(parts)


def _padded(rows: Ragged) -> torch.Tensor:
    """Return (B, R) item numbers, padded with item 0."""
    item_BR = np.zeros((len(rows), int(rows.lengths.max(initial=0))), np.int64)
    item_BR[rows.task, rows.position] = rows.item
    return torch.from_numpy(item_BR)


def _out_of_fold(
    content_IF: torch.Tensor, left_I: Float64Array, count_I: Float64Array
) -> Float64Array:
    """Return (I,) predictions of items' means from content by ridge regressions, each fitted
    without the item's fold."""
    num_items, num_columns = content_IF.shape
    fold_I = np.random.default_rng(0).integers(0, NUM_FOLDS, num_items)
    predicted = np.zeros(num_items)
    for fold in range(NUM_FOLDS):
        used_I = torch.from_numpy(np.where(fold_I == fold, 0.0, count_I))
        target_I = torch.from_numpy(np.where(fold_I == fold, 0.0, left_I))
        system = content_IF.T @ (content_IF * used_I[:, None])
        system += CONTENT_RIDGE * torch.eye(num_columns, dtype=torch.float64)
        weight = torch.linalg.solve(system, content_IF.T @ target_I)
        held = fold_I == fold
        predicted[held] = (content_IF[torch.from_numpy(held)] @ weight).numpy()
    return predicted
