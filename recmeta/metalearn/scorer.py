"""A model in use: it adapts to users, predicts, and scores items for lists.

Legend: B users, R rows of each (padded), N query rows of all users.
"""

import dataclasses

import numpy as np
import torch

from recmeta import schema
from recmeta.metalearn.learner import CatalogueRanker, Params, Prediction, UserState, with_derived
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.batch import POPULARITY_SCALE, Rows, Support
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.task_set import Ragged, Tasks

MOST_READY_ITEMS = 200_000
"""Largest catalogue that `Scorer.ready` prepares as a whole, some hundred numbers an item."""


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A model with all that its parameters imply; to be made once for many users."""

    model: Model
    params: Params
    """The model's, with what the learner derives from them."""
    popularity_weight: float
    """What popularity counts in lists: see `ModelConfig.popularity_weight`."""
    prepared_items: Rows | None = None
    """The whole catalogue as it is now, in the order of its numbers; None: items are prepared when
    they are met."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model) -> "Scorer":
        """Return the scorer of a model with the parameters that it has now."""
        params = with_derived(model.learner, model.params)
        return cls(model, params, model.config.popularity_weight)

    def weighted(self, popularity_weight: float) -> "Scorer":
        """Return the same with another weight of popularity."""
        return dataclasses.replace(self, popularity_weight=popularity_weight)

    def ready(self) -> "Scorer":
        """Return the same with all items prepared, for tasks of now: a request has a handful of
        items, and looking these up takes less than preparing them each time. One of a larger
        catalogue goes on preparing items when they are met."""
        num_items = self.model.catalogue.num_items
        if num_items > MOST_READY_ITEMS:
            return self
        return dataclasses.replace(
            self, prepared_items=self.item_block(-1, schema.END_OF_TIME, 0, num_items)
        )

    # Users ---------------------------------------------------------------------------------------

    def support(self, tasks: Tasks) -> Support:
        """Return what is known of the tasks' users, as `adapt` reads it."""
        known = self.model.known_rows(tasks)
        return Support(self.model.catalogue.users(tasks), self.rows(known, tasks))

    def rows(self, side: Ragged, tasks: Tasks) -> Rows:
        """Return one side of the tasks as padded tensors; prepared, where all items are."""
        catalogue = self.model.catalogue
        if self.prepared_items is None or not catalogue.is_of_now(side, tasks):
            return catalogue.rows(side, tasks)
        return self.prepared_items.placed(catalogue.places(side))

    @torch.no_grad()
    def adapt(self, tasks: Tasks, support: Support | None = None) -> UserState:
        """Return the states of the tasks' users after their support.

        Args:
            support: what `support` returns of the tasks, where it is at hand.
        """
        return self.model.learner.adapt(self.params, support or self.support(tasks))

    # Predictions ---------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, state: UserState, items: Rows) -> Prediction:
        """Return predictions of rows for adapted users, in units of the model."""
        return self.model.learner.predict(self.params, state, items)

    def score_query(self, tasks: Tasks) -> Float32Array:
        """Return (N,) predictions of the query rows after adapting to the support.

        For ratings they are in units of the value and within its range; for implicit feedback they
        are logits.
        """
        return self.score_and_expect(tasks)[0]

    def score_and_expect(self, tasks: Tasks) -> tuple[Float32Array, Float32Array]:
        """Return (N,) what `score_query` gives, and (N,) what to order the query rows by, in units
        of the model: the expected value where that predicts a median."""
        rows = self.rows(tasks.query, tasks)
        predicted = self.predict(self.adapt(tasks), rows)
        expected_N: Float32Array = predicted.ranked_by_BR[rows.mask_BR].cpu().float().numpy()
        return self.model.units.to_values(predicted.mean_BR[rows.mask_BR]), expected_N

    # Lists ---------------------------------------------------------------------------------------

    def item_block(self, snapshot: int, cut_time: int, first: int, last: int) -> Rows:
        """Return items numbered first to last, exclusive, prepared.

        Args:
            snapshot: the item statistics to use.
            cut_time: microseconds since 1970; attributes valid then are used.
        """
        numbers = np.arange(first, last)
        return self.prepared(self.model.catalogue.item_rows(numbers, snapshot, cut_time))

    @torch.no_grad()
    def prepared(self, rows: Rows) -> Rows:
        """Return rows for `rank_block` with the work done that no user changes: to be kept where
        many users are asked about them."""
        return self.model.learner.prepare(self.params, rows)

    @property
    def settles(self) -> bool:
        """Whether the learner is a `CatalogueRanker`."""
        return isinstance(self.model.learner, CatalogueRanker)

    @torch.no_grad()
    def settled(self, state: UserState) -> UserState:
        """Return adapted users as `rank_block` reads them: to be done once for many blocks."""
        learner = self.model.learner
        return learner.settle(self.params, state) if isinstance(learner, CatalogueRanker) else state

    @torch.no_grad()
    def rank_block(self, settled: UserState, items: Rows) -> torch.Tensor:
        """Return what lists are ordered by (B, items): expected values in units of the model, or
        logits, and what popularity adds to them.

        Args:
            items: as `item_block` gives them.
        """
        learner, bonus_BR = self.model.learner, self.popularity_bonus(items.statistics_BRD)
        if isinstance(learner, CatalogueRanker):
            return learner.ranked_by(self.params, settled, items).add_(bonus_BR)
        return self.predict(settled, items).ranked_by_BR.add_(bonus_BR)

    def popularity_bonus(self, past: torch.Tensor) -> torch.Tensor:
        """Return what popularity adds to the scores of items in lists, (...), in their units.

        Args:
            past: (..., D) from `Catalogue.past`.
        """
        weight = self.popularity_weight if self.model.objective == "rating" else 0.0
        return weight * POPULARITY_SCALE * past[..., 1]
