"""EASE: a linear item-to-item model with a closed form (Steck, WWW 2019).

Legend: B users, N query rows, I items, J items with weights.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, fixed
from recmeta.evaluation.baseline_parts.lists_of_ratings import with_lists_of_ratings
from recmeta.evaluation.baseline_parts.neighbourhood import (
    MAX_ITEMS,
    KnownItems,
    co_occurrences,
    gram,
    more_items,
)
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.baselines.averages.item_mean_user_bias import (
    ItemMeanUserBias,
    upon_biases,
)
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks

USERS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class EaseConfig:
    """The ridge weight, and the scale of residuals."""

    regularisation: float = 300.0
    """The ridge weight of every item-to-item weight; above 0."""
    scale: float = 1.0
    """For ratings, the factor of the predicted residual. Absent ratings count as residuals of 0,
    which shrinks predictions to 0; a factor above 1 undoes that."""
    max_items: int = MAX_ITEMS
    """The number of items that have weights: those that most users met."""

    def __post_init__(self) -> None:
        if not self.regularisation > 0:
            raise UserError(f"regularisation is {self.regularisation}; it must be above 0.")


@dataclasses.dataclass(frozen=True)
class Ease:
    """Scores x B, where x are a user's support rows: folding in is one product.

    B minimises |X - X B|^2 + l |B|^2 with a zero diagonal: B = I - P diag(P)^-1 with P = (X'X + l
    I)^-1 (Steck, WWW 2019, equations 7 and 8). For implicit feedback X is 1 where a user met an
    item. For ratings X holds the residuals after the biases, and the prediction is that of the
    biases plus `scale` times x B. Items without weights score 0 or, for ratings, the prediction of
    the biases. For the gate it makes lists from ratings as from implicit feedback.
    """

    known: KnownItems
    weight_JJ: torch.Tensor
    config: EaseConfig
    biases: ItemMeanUserBias | None
    """The biases, or None for implicit feedback."""
    name: ClassVar[str] = "ease"

    @property
    def predicts_values(self) -> bool:
        """Whether it was fitted to ratings."""
        return self.biases is not None

    @classmethod
    def fit_all(
        cls,
        train: Tasks,
        num_items: int,
        configs: Sequence[EaseConfig],
        biases: ItemMeanUserBias | None = None,
    ) -> Iterator["Ease"]:
        """Yield a fit per configuration; the Gram matrix and equal inverses are computed once.

        Args:
            train: meta-training tasks; support and query rows are the data.
            biases: the biases fitted to the same rows for ratings, or None for implicit feedback.
        """
        rows = training_rows(train)
        for max_items, some in itertools.groupby(configs, lambda config: config.max_items):
            known = KnownItems.of(rows, num_items, max_items)
            if biases is None:
                gram_JJ = co_occurrences(known, rows)
            else:
                gram_JJ = gram(known, rows, residuals(rows, biases))
            last: tuple[float, torch.Tensor] | None = None
            for config in some:
                if last is None or last[0] != config.regularisation:
                    last = config.regularisation, _weights(gram_JJ, config.regularisation)
                yield cls(known, last[1], config, biases)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) a score for every query row, clipped to the value range for ratings."""
        parts = [self._batch_query(batch) for batch in tasks.batches(USERS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) scores of the whole catalogue, not clipped."""
        scores_BI = np.zeros((len(tasks), len(self.known.place_I)))
        scores_BI[:, self.known.item_J] = self._linear(tasks).numpy()
        if self.biases is not None:
            scores_BI = self.biases.score_items(tasks) + self.config.scale * scores_BI
        return scores_BI

    def _batch_query(self, tasks: Tasks) -> Float64Array:
        place_N = self.known.place_I[tasks.query.item]
        linear_BJ = self._linear(tasks).numpy()
        scores_N = np.where(
            place_N >= 0, linear_BJ[tasks.query.task, np.maximum(place_N, 0)], 0.0
        ).astype(np.float64)
        if self.biases is None:
            return scores_N
        user_N = self.biases.user_bias(tasks.support)[tasks.query.task]
        base_N = self.biases.mean + self.biases.item_bias[tasks.query.item] + user_N
        return np.clip(base_N + self.config.scale * scores_N, *self.biases.value_range)

    def _linear(self, tasks: Tasks) -> torch.Tensor:
        support = tasks.support
        values_BJ = self.known.dense(support, residuals(support, self.biases))
        return values_BJ @ self.weight_JJ


def residuals(rows: Ragged, biases: ItemMeanUserBias | None) -> Float64Array:
    """Return (N,) the residuals of the values after the biases, or the values without biases."""
    value_N = rows.value.astype(np.float64)
    if biases is None:
        return value_N
    user_N = biases.user_bias(rows)[rows.task]
    left: Float64Array = value_N - biases.mean - biases.item_bias[rows.item] - user_N
    return left


def _weights(gram_JJ: torch.Tensor, regularisation: float) -> torch.Tensor:
    ridge_JJ = gram_JJ + regularisation * torch.eye(len(gram_JJ))
    precision_JJ = torch.cholesky_inverse(torch.linalg.cholesky(ridge_JJ))
    weight_JJ = -precision_JJ / precision_JJ.diagonal()
    weight_JJ.fill_diagonal_(0.0)
    return weight_JJ


RATING_GRID = tuple(
    EaseConfig(regularisation=ridge, scale=scale)
    for ridge, scale in itertools.product(
        (100.0, 300.0, 1000.0, 3000.0, 10000.0), (1.0, 2.0, 4.0, 8.0, 16.0)
    )
)
IMPLICIT_GATE_GRID = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
IMPLICIT_PUBLISHED_GRID = (3.0, *IMPLICIT_GATE_GRID)


def _candidates(search: BaselineSearch) -> Sequence[EaseConfig]:
    grid = IMPLICIT_GATE_GRID if search.grid == "gate" else IMPLICIT_PUBLISHED_GRID
    return [EaseConfig(regularisation=ridge) for ridge in grid]


_fit_all = upon_biases(Ease.fit_all)


BASELINE = with_lists_of_ratings(
    Baseline(
        name=Ease.name,
        candidates=_candidates,
        fit_all=_fit_all,
        default=lambda search: EaseConfig(),
        refinements=(more_items,),
        objectives=("implicit",),
        known_items_only=True,
    ),
    Baseline(
        name=Ease.name,
        candidates=fixed(*RATING_GRID),
        fit_all=_fit_all,
        default=lambda search: EaseConfig(),
        known_items_only=True,
    ),
    predicts_in_gate=False,
)
