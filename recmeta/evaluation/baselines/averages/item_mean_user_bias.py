"""The item's mean plus the user's bias, estimated from the support."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, Config, each
from recmeta.evaluation.baseline_parts.rows import (
    mean_value,
    sum_by_task,
    training_rows,
)
from recmeta.evaluation.predictor import Predictor
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks

USERS_AT_ONCE = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasConfig:
    """The ridge weights of the two biases. Each counts like this many ratings with a bias of
    zero."""

    item_regularisation: float = 3.0
    """The ridge weight of an item's bias; above 0."""
    user_regularisation: float = 5.0
    """The ridge weight of a user's bias; above 0."""
    sweeps: int = 10
    """The number of alternations between the users' and the items' biases."""

    def __post_init__(self) -> None:
        for name in ("item_regularisation", "user_regularisation"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0.")


@dataclasses.dataclass(frozen=True)
class ItemMeanUserBias:
    """Predicts mu + b_i + b_u, the ridge regression on user and item (Koren, KDD 2008, section
    2.1).

    The biases b minimise sum (r_ui - mu - b_i - b_u)^2 + l_i sum b_i^2 + l_u sum b_u^2, by
    alternating exact steps. A new user's bias is that step for the support: sum (r - mu - b_i) / (n
    + l_u), so 0 with no support. An unknown item has b_i = 0.
    """

    mean: float
    item_bias: Float64Array
    """(I,)"""
    config: BiasConfig
    value_range: tuple[float, float]
    name: ClassVar[str] = "item-mean-user-bias"
    predicts_values: ClassVar[bool] = True

    @classmethod
    def fit(
        cls,
        train: Tasks,
        num_items: int,
        value_range: tuple[float, float],
        config: BiasConfig | None = None,
    ) -> "ItemMeanUserBias":
        """Return the items' biases, fitted to the support and query rows of the meta-training
        tasks."""
        config = config or BiasConfig()
        rows = training_rows(train)
        mean = mean_value(rows)
        weight_I = scratch.counts(rows.item, num_items) + config.item_regularisation
        item_bias = np.zeros(num_items)
        for sweep in range(config.sweeps + 1):  # at first, users have no bias
            total_I = np.zeros(num_items)
            for some in rows.batches(USERS_AT_ONCE):
                residual_n = some.value.astype(np.float64) - mean
                if sweep:
                    user_bias = sum_by_task(some, residual_n - item_bias[some.item]) / (
                        some.lengths + config.user_regularisation
                    )
                    residual_n -= user_bias[some.task]
                np.add.at(total_I, some.item, residual_n)
            item_bias = total_I / weight_I
        return cls(mean, item_bias, config, value_range)

    def user_bias(self, support: Ragged) -> Float64Array:
        """Return (B,) each user's bias, estimated from the support."""
        residual_N = support.value.astype(np.float64) - self.mean - self.item_bias[support.item]
        return sum_by_task(support, residual_N) / (
            support.lengths + self.config.user_regularisation
        )

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) predicted values, clipped to the value range."""
        user_bias_N = self.user_bias(tasks.support)[tasks.query.task]
        predicted_N = self.mean + self.item_bias[tasks.query.item] + user_bias_N
        return np.clip(predicted_N, *self.value_range)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) predicted values, not clipped, so that the best items do not tie."""
        return self.mean + self.item_bias + self.user_bias(tasks.support)[:, None]


GATE_GRID = ((0.5, 1.0, 2.0, 4.0, 8.0), (2.0, 4.0, 8.0, 12.0, 20.0))
PUBLISHED_GRID = ((0.3, 1.0, 3.0, 8.0), (0.5, 1.0, 2.0, 5.0, 10.0, 20.0))
"""The ridge weights of items, and those of users."""


def _candidates(search: BaselineSearch) -> list[BiasConfig]:
    grid = GATE_GRID if search.grid == "gate" else PUBLISHED_GRID
    return [
        BiasConfig(item_regularisation=item, user_regularisation=user)
        for item, user in itertools.product(*grid)
    ]


def _fit(search: BaselineSearch, train: Tasks, config: BiasConfig) -> ItemMeanUserBias:
    return ItemMeanUserBias.fit(train, search.num_items, search.value_range, config)


BASELINE = Baseline(
    name=ItemMeanUserBias.name,
    candidates=_candidates,
    fit_all=each(_fit),
    default=lambda search: BiasConfig(),
)


def upon_biases(
    fit_all: Callable[[Tasks, int, Sequence[Any], ItemMeanUserBias | None], Iterator[Predictor]],
) -> Callable[[BaselineSearch, Tasks, Sequence[Config]], Iterator[Predictor]]:
    """Return the `fit_all` of a baseline that predicts the residuals of ratings after biases, or
    the items that users take for implicit feedback.

    Args:
        fit_all: called with the training tasks, the number of items, the candidates, and the biases
            fitted to these tasks' rows with the ridge weights that the search chooses, or None for
            implicit feedback.
    """

    def fitted(
        search: BaselineSearch, train: Tasks, configs: Sequence[Config]
    ) -> Iterator[Predictor]:
        biases = None
        if search.objective == "rating":
            biases = _fit(search, train, search.chosen(BASELINE).config)
        return fit_all(train, search.num_items, configs, biases)

    return fitted
