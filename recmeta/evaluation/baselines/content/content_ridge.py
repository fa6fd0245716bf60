"""A ridge regression on the content of items, with weights for all users and for each user's own
taste.

Legend: B users, N rows, I items, F content columns, S support rows and R query rows (padded).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, fixed
from recmeta.evaluation.baseline_parts.item_content import item_content
from recmeta.evaluation.baseline_parts.rows import (
    mean_value,
    sum_by_item,
    sum_by_task,
    training_rows,
)
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks

USERS_AT_ONCE = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContentRidgeConfig:
    """The ridge weights: the noise's variance over that of the coefficient. All are above 0."""

    content_regularisation: float = 30.0
    """The ridge weight of every content column for all users."""
    item_regularisation: float = 3.0
    """The ridge weight of an item's own deviation from its content."""
    user_regularisation: float = 5.0
    """The ridge weight of a user's bias."""
    taste_regularisation: float = 3.0
    """The ridge weight of every content column for one user."""
    sweeps: int = 8
    """The number of alternations between content, items and users."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise UserError(f"{field.name} is {getattr(self, field.name)}; it must be above 0.")


@dataclasses.dataclass(frozen=True)
class ContentRidge:
    """Predicts mu + x_i.w + d_i + b_u + x_i.v_u, x_i being the content of item i.

    w, d and the training users' b minimise the squared error plus their ridge penalties, by
    alternating exact steps. A new user's b_u and v_u are the ridge regression on the support with
    the rest fixed, solved in its dual form: one system as large as the support. A new item has d_i
    = 0, and is predicted from its content alone.
    """

    mean: float
    item_I: Float64Array
    """(I,) x_i.w + d_i."""
    content_IF: torch.Tensor
    config: ContentRidgeConfig
    value_range: tuple[float, float]
    name: ClassVar[str] = "content-ridge"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit_all(
        cls,
        train: Tasks,
        content_IF: torch.Tensor,
        value_range: tuple[float, float],
        configs: Sequence[ContentRidgeConfig],
    ) -> Iterator["ContentRidge"]:
        """Yield a fit per configuration; the shared part is solved once for equal weights.

        Args:
            train: meta-training tasks; support and query rows are the data.
            content_IF: the content of every item of the catalogue.
        """
        rows = training_rows(train)
        shared: dict[ContentRidgeConfig, Float64Array] = {}
        for config in configs:
            key = dataclasses.replace(config, taste_regularisation=1.0)
            if key not in shared:
                shared[key] = _item_effects(rows, content_IF, config)
            yield cls(mean_value(rows), shared[key], content_IF, config, value_range)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) predicted values, clipped to the value range."""
        parts = [np.zeros(0)]
        for batch in tasks.batches(USERS_AT_ONCE):
            query_BRF = self.content_IF[_padded(batch.query)]
            own_BR = self._own(batch.support, query_BRF).numpy().astype(np.float64)
            own_N = own_BR[batch.query.task, batch.query.position]
            parts.append(self.mean + self.item_I[batch.query.item] + own_N)
        return np.clip(np.concatenate(parts), *self.value_range)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) predicted values, not clipped, so that the best items do not tie."""
        own = [
            self._own(batch.support, self.content_IF.expand(len(batch), -1, -1)).numpy()
            for batch in tasks.batches(USERS_AT_ONCE)
        ]
        return self.mean + self.item_I + np.concatenate(own).astype(np.float64)

    def _own(self, support: Ragged, content_BRF: torch.Tensor) -> torch.Tensor:
        """Return (B, R) b_u + x.v_u. With k(i, j) = 1 / l_b + x_i.x_j / l_v it is k(R, S) (k(S, S)
        + I)^-1 e, where e are the support's residuals after the shared part."""
        if len(support.item) == 0:
            return torch.zeros(content_BRF.shape[:2])
        left_N = support.value.astype(np.float64) - self.mean - self.item_I[support.item]
        left_BS = torch.zeros((len(support), int(support.lengths.max())))
        left_BS[support.task, support.position] = torch.from_numpy(left_N.astype(np.float32))
        present_BS = torch.zeros_like(left_BS)
        present_BS[support.task, support.position] = 1.0
        support_BSF = self.content_IF[_padded(support)]
        kernel_BSS = self._kernel(support_BSF, support_BSF)
        # A padded row is a system of its own: 1 on the diagonal, 0 elsewhere.
        kernel_BSS = kernel_BSS * present_BS[:, :, None] * present_BS[:, None]
        factor, _ = torch.linalg.cholesky_ex(kernel_BSS + torch.eye(left_BS.shape[1]))
        dual_BS1 = torch.cholesky_solve(left_BS[:, :, None], factor)
        own: torch.Tensor = (self._kernel(content_BRF, support_BSF) @ dual_BS1)[:, :, 0]
        return own

    def _kernel(self, left_BRF: torch.Tensor, right_BSF: torch.Tensor) -> torch.Tensor:
        taste_BRS = left_BRF @ right_BSF.transpose(1, 2) / self.config.taste_regularisation
        return taste_BRS + 1.0 / self.config.user_regularisation


def _padded(rows: Ragged) -> torch.Tensor:
    """Return (B, R) item numbers, padded with item 0."""
    item_BR = np.zeros((len(rows), int(rows.lengths.max(initial=0))), np.int64)
    item_BR[rows.task, rows.position] = rows.item
    return torch.from_numpy(item_BR)


def _item_effects(
    rows: Ragged, content_IF: torch.Tensor, config: ContentRidgeConfig
) -> Float64Array:
    """Return (I,) x_i.w + d_i."""
    num_items, num_columns = content_IF.shape
    left_N = rows.value.astype(np.float64) - mean_value(rows)
    count_I = np.bincount(rows.item, minlength=num_items).astype(np.float64)
    content = content_IF.double()
    weighted = content * torch.from_numpy(count_I)[:, None]
    system = content.T @ weighted + config.content_regularisation * torch.eye(
        num_columns, dtype=torch.float64
    )
    factor = torch.linalg.cholesky(system)
    by_content = np.zeros(num_items)
    beside = np.zeros(num_items)
    user_N = np.zeros(len(left_N))
    for _ in range(config.sweeps):
        total_I = sum_by_item(rows, left_N - user_N, num_items)
        target = content.T @ torch.from_numpy(total_I - count_I * beside)
        by_content = (content @ torch.cholesky_solve(target[:, None], factor)[:, 0]).numpy()
        beside = (total_I - count_I * by_content) / (count_I + config.item_regularisation)
        item_N = (by_content + beside)[rows.item]
        user_B = sum_by_task(rows, left_N - item_N) / (rows.lengths + config.user_regularisation)
        user_N = user_B[rows.task]
    return by_content + beside


GRID = tuple(
    ContentRidgeConfig(
        content_regularisation=content, user_regularisation=user, taste_regularisation=taste
    )
    for content, user, taste in itertools.product(
        (10.0, 30.0, 100.0), (2.0, 6.0), (0.5, 1.5, 5.0, 15.0)
    )
)


def _fit_all(
    search: BaselineSearch, train: Tasks, configs: Sequence[ContentRidgeConfig]
) -> Iterator[ContentRidge]:
    content_IF, _ = item_content(search.catalogue())
    return ContentRidge.fit_all(train, content_IF, search.value_range, configs)


BASELINE = Baseline(
    name=ContentRidge.name,
    candidates=fixed(*GRID),
    fit_all=_fit_all,
    reads_items=True,
    default=lambda search: ContentRidgeConfig(),
)
