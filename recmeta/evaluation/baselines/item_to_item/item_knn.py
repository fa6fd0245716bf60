"""Item-to-item nearest neighbours (Sarwar et al., WWW 2001), with shrunk similarities.

Legend: B users, N query rows, S support rows (padded), K neighbours, J items with weights, R items
to score.
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
from recmeta.evaluation.baselines.item_to_item.ease import residuals
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Tasks

MAX_CELLS = 2**24  # the most similarities that are gathered at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class ItemKNNConfig:
    """The number of neighbours, and how strongly similarities and predictions are shrunk."""

    num_neighbours: int = 30
    """K: for ratings, the number of most similar items of the support that count; for implicit
    feedback, the number of most similar items of the catalogue that score an item."""
    shrinkage: float = 50.0
    """A similarity that n users support is multiplied by n / (n + this); at least 0."""
    prediction_shrinkage: float = 1.0
    """For ratings, this is added to the sum of similarities in the denominator; at least 0."""
    max_items: int = MAX_ITEMS
    """The number of items that have similarities: those that most users met."""

    def __post_init__(self) -> None:
        if self.num_neighbours < 1:
            raise UserError(f"num_neighbours is {self.num_neighbours}; it must be at least 1.")
        if self.shrinkage < 0 or self.prediction_shrinkage < 0:
            raise UserError(
                f"shrinkage {self.shrinkage} and prediction_shrinkage {self.prediction_shrinkage} "
                "must not be negative."
            )


@dataclasses.dataclass(frozen=True)
class ItemKNN:
    """Scores an item by the similar items of the support.

    Similarity is the cosine over training users; negative ones are dropped. For ratings it is that
    of the residuals after the biases, the K most similar items of the support count, and the
    prediction is that of the biases plus sum s e / (sum s + prediction_shrinkage), e being the
    residuals of the support (Sarwar et al., WWW 2001, with shrinkage). For implicit feedback an
    item keeps the K similarities that are largest in the catalogue, and the score is their sum over
    the support (Deshpande and Karypis, TOIS 2004).
    """

    known: KnownItems
    similarity_JJ: torch.Tensor
    """The diagonal is 0, since an item is not its own neighbour."""
    config: ItemKNNConfig
    biases: ItemMeanUserBias | None
    """The biases, or None for implicit feedback."""
    name: ClassVar[str] = "item-knn"

    @property
    def predicts_values(self) -> bool:
        """Whether it was fitted to ratings."""
        return self.biases is not None

    @classmethod
    def fit_all(
        cls,
        train: Tasks,
        num_items: int,
        configs: Sequence[ItemKNNConfig],
        biases: ItemMeanUserBias | None = None,
    ) -> Iterator["ItemKNN"]:
        """Yield a fit per configuration; co-occurrences are counted once.

        Args:
            train: meta-training tasks; support and query rows are the data.
            biases: the biases fitted to the same rows for ratings, or None for implicit feedback.
        """
        rows = training_rows(train)
        for max_items, some in itertools.groupby(configs, lambda config: config.max_items):
            known = KnownItems.of(rows, num_items, max_items)
            both_JJ = co_occurrences(known, rows)
            product_JJ = both_JJ
            if biases is not None:
                product_JJ = gram(known, rows, residuals(rows, biases))
            norm_J = product_JJ.diagonal().clamp(min=1e-12).sqrt()
            cosine_JJ = (product_JJ / norm_J / norm_J[:, None]).clamp(min=0.0)
            cosine_JJ.fill_diagonal_(0.0)
            for config in some:
                shrunk_JJ = cosine_JJ * (both_JJ / (both_JJ + config.shrinkage + 1e-12))
                if biases is None:
                    shrunk_JJ = _largest(shrunk_JJ, config.num_neighbours)
                yield cls(known, shrunk_JJ, config, biases)

    def score_query(self, tasks: Tasks) -> Float64Array:
        """Return (N,) a score for every query row, clipped to the value range for ratings."""
        support, query = tasks.support, tasks.query
        if self.biases is None:
            return self.score_items(tasks)[query.task, query.item]
        place_BS, value_BS = self._padded(tasks)
        query_N = torch.from_numpy(self.known.place_I[query.item])
        step = max(1, MAX_CELLS // max(1, place_BS.shape[1]))
        parts = [np.zeros(0)]
        for first in range(0, len(query.item), step):
            rows = slice(first, first + step)
            task = torch.from_numpy(query.task[rows])
            parts.append(
                self._voted(place_BS[task], value_BS[task], query_N[rows, None])[:, 0].numpy()
            )
        score_N = np.concatenate(parts).astype(np.float64)
        user_N = self.biases.user_bias(support)[query.task]
        base_N = self.biases.mean + self.biases.item_bias[query.item] + user_N
        return np.clip(base_N + score_N, *self.biases.value_range)

    def score_items(self, tasks: Tasks) -> Float64Array:
        """Return (B, I) scores of the whole catalogue, not clipped."""
        scores_BI = np.zeros((len(tasks), len(self.known.place_I)))
        if self.biases is None:
            met_BJ = self.known.dense(tasks.support, np.ones(len(tasks.support.item)))
            scores_BI[:, self.known.item_J] = (met_BJ @ self.similarity_JJ).numpy()
            return scores_BI
        place_BS, value_BS = self._padded(tasks)
        item_1J = torch.arange(len(self.known))[None]
        step = max(1, MAX_CELLS // max(1, place_BS.shape[1] * len(self.known)))
        for first in range(0, len(tasks), step):
            users = slice(first, first + step)
            voted_BJ = self._voted(place_BS[users], value_BS[users], item_1J)
            scores_BI[users, self.known.item_J] = voted_BJ.numpy()
        return scores_BI + self.biases.score_items(tasks)

    def _padded(self, tasks: Tasks) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, S) places and values of the support, padded with -1 and 0."""
        support = tasks.support
        longest = int(support.lengths.max(initial=0))
        place_BS = np.full((len(tasks), longest), -1, np.int64)
        value_BS = np.zeros((len(tasks), longest), np.float32)
        place_BS[support.task, support.position] = self.known.place_I[support.item]
        value_BS[support.task, support.position] = residuals(support, self.biases)
        return torch.from_numpy(place_BS), torch.from_numpy(value_BS)

    def _voted(
        self, place_BS: torch.Tensor, value_BS: torch.Tensor, item_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return (B, R) the votes of the nearest support rows for each item."""
        num_rows = place_BS.shape[1]
        if num_rows == 0 or len(self.known) == 0:
            return torch.zeros((len(place_BS), item_BR.shape[1]))
        near_BRS = self.similarity_JJ[
            item_BR.clamp(min=0)[:, :, None], place_BS[:, None].clamp(min=0)
        ]
        near_BRS = near_BRS * ((item_BR >= 0)[:, :, None] & (place_BS >= 0)[:, None])
        near_BRK, which_BRK = near_BRS.topk(min(self.config.num_neighbours, num_rows), dim=2)
        values_BRK = torch.take_along_dim(value_BS[:, None], which_BRK, dim=2)
        weight_BR = near_BRK.sum(2) + self.config.prediction_shrinkage
        voted: torch.Tensor = (near_BRK * values_BRK).sum(2) / weight_BR.clamp(min=1e-12)
        return voted


def _largest(similarity_JJ: torch.Tensor, num_neighbours: int) -> torch.Tensor:
    """Return the similarities, with all but the largest of each column set to 0."""
    value_KJ, place_KJ = similarity_JJ.topk(min(num_neighbours, len(similarity_JJ)), dim=0)
    return torch.zeros_like(similarity_JJ).scatter_(0, place_KJ, value_KJ)


RATING_GRID = tuple(
    ItemKNNConfig(shrinkage=s, num_neighbours=k, prediction_shrinkage=p)
    for s, k, p in itertools.product((3.0, 10.0, 50.0), (5, 10, 20, 50), (0.05, 0.2))
)
IMPLICIT_PUBLISHED_GRID = tuple(
    ItemKNNConfig(shrinkage=s, num_neighbours=k)
    for s, k in itertools.product((0.0, 3.0, 10.0, 30.0), (10, 20, 50, 100, 200))
)
IMPLICIT_GATE_GRID = tuple(
    ItemKNNConfig(shrinkage=s, num_neighbours=k)
    for s, k in itertools.product((0.0, 10.0), (20, 50, 100, 200))
)


def _candidates(search: BaselineSearch) -> Sequence[ItemKNNConfig]:
    return IMPLICIT_GATE_GRID if search.grid == "gate" else IMPLICIT_PUBLISHED_GRID


_fit_all = upon_biases(ItemKNN.fit_all)


BASELINE = with_lists_of_ratings(
    Baseline(
        name=ItemKNN.name,
        candidates=_candidates,
        fit_all=_fit_all,
        default=lambda search: ItemKNNConfig(num_neighbours=100, shrinkage=0.0),
        refinements=(more_items,),
        objectives=("implicit",),
        known_items_only=True,
    ),
    Baseline(
        name=ItemKNN.name,
        candidates=fixed(*RATING_GRID),
        fit_all=_fit_all,
        default=lambda search: ItemKNNConfig(),
        known_items_only=True,
    ),
)
