"""A trained model in use: it adapts to users, predicts, and scores items for lists.

Legend: B users, R rows of each (padded), N query rows of all users.
"""

import dataclasses

import numpy as np
import torch

from recmeta import schema
from recmeta.metalearn.heads.levels import LevelHead, LevelShares
from recmeta.metalearn.heads.list_head import ListHead
from recmeta.metalearn.learner import (
    Params,
    Prediction,
    UserState,
    ranks_catalogue,
    with_derived,
)
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.batch import POPULARITY_SCALE, Places, Rows, Support
from recmeta.metalearn.tensors.value_codes import value_codes
from recmeta.tasks.arrays import BoolArray, Float32Array, Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

MOST_READY_ITEMS = 200_000
"""The largest catalogue that `Scorer.ready` prepares as a whole, with some hundred numbers per
item."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValuePredictions:
    """A model's predictions of rows, (B, R) or (N,) each. Predictions of ratings are in units of
    the value, those of implicit feedback are logits."""

    value: Float32Array
    """The prediction with the least error: the median of a rating, if the model knows it. It is
    clipped to the range of values."""
    mean: Float32Array
    """The expected value, not clipped to the range: effects are differences, which clipping would
    cut off."""
    expected: Float32Array
    """The expected value, clipped to the range."""
    raw: Float32Array
    """The expected value before the uncertainty calibrates it to the scale of the values."""
    order: Float32Array
    """The value by which a user's rows are ordered, in units of the model or of the value: medians
    and clipping would produce many ties."""
    spread: Float64Array | None
    """Standard deviations, or None if neither the learner nor a level head has any."""
    shares: LevelShares | None = None
    """The whole distributions, if there is a level head."""

    def of(self, mask_BR: BoolArray) -> "ValuePredictions":
        """Return the rows where the mask is true, laid end to end."""
        spread, shares = self.spread, self.shares
        return ValuePredictions(
            value=self.value[mask_BR],
            mean=self.mean[mask_BR],
            expected=self.expected[mask_BR],
            raw=self.raw[mask_BR],
            order=self.order[mask_BR],
            spread=None if spread is None else spread[mask_BR],
            shares=None if shares is None else shares.of(mask_BR),
        )


@dataclasses.dataclass(frozen=True)
class Scorer:
    """A model with everything that is derived from its parameters. Make it once for many users."""

    model: Model
    params: Params
    """The model's parameters, with the tensors that the learner derives from them."""
    lists: ListHead
    """The head that orders lists: the model's, unless another is given."""
    prepared_items: Rows | None = None
    """The whole current catalogue, prepared, in the order of its numbers. If None, items are
    prepared when they are needed."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model) -> "Scorer":
        """Return the scorer of a model with its current parameters."""
        params = with_derived(model.learner, model.params)
        return cls(model, params, model.lists)

    def weighted(self, popularity_weight: float) -> "Scorer":
        """Return the scorer with another weight of popularity in lists.

        Raises:
            UserError: if the model's lists do not read popularity.
        """
        return dataclasses.replace(self, lists=self.lists.with_popularity(popularity_weight))

    def ready(self) -> "Scorer":
        """Return the scorer with all items prepared, for tasks of the present: a request has a
        handful of items, and looking them up takes less time than preparing them. With a catalogue
        larger than `MOST_READY_ITEMS`, items are still prepared when they are needed."""
        num_items = self.model.catalogue.num_items
        if num_items > MOST_READY_ITEMS:
            return self
        return dataclasses.replace(
            self, prepared_items=self.item_block(-1, schema.END_OF_TIME, 0, num_items)
        )

    # Users ---------------------------------------------------------------------------------------

    def support(self, tasks: Tasks) -> Support:
        """Return the support of the tasks, as `adapt` reads it."""
        known = self.model.known_rows(tasks)
        return Support(self.model.catalogue.users(tasks), self.rows(known, tasks))

    def rows(self, side: Ragged, tasks: Tasks) -> Rows:
        """Return one side of the tasks as padded tensors, prepared if all items are."""
        catalogue = self.model.catalogue
        if self.prepared_items is None or not catalogue.is_of_now(side, tasks):
            return catalogue.rows(side, tasks)
        return self.prepared_items.placed(catalogue.places(side))

    def rows_of_now(self, item_Bk: IntArray) -> Rows:
        """Return each user's own items as rows, (B, k), with statistics at the end of the log.
        Padding holds item 0."""
        catalogue, device = self.model.catalogue, self.model.device
        item_Bk = np.maximum(item_Bk, 0)
        known = self.prepared_items
        if known is None:
            items, place_N = np.unique(item_Bk, return_inverse=True)
            snapshot = len(catalogue.statistics.time) - 1
            known = self.prepared(catalogue.item_rows(items, snapshot, schema.END_OF_TIME))
            item_Bk = place_N.reshape(item_Bk.shape)
        place_Bk = torch.from_numpy(item_Bk).to(device)
        mask_Bk = torch.ones_like(place_Bk, dtype=torch.bool)
        return known.placed(
            Places(place_Bk, torch.zeros_like(place_Bk, dtype=torch.float32), mask_Bk)
        )

    @torch.no_grad()
    def adapt(self, tasks: Tasks, support: Support | None = None) -> UserState:
        """Return the states of the tasks' users after their support.

        Args:
            support: the result of `support` for these tasks, if it is at hand.
        """
        support = support or self.support(tasks)
        state = self.model.learner.adapt(self.params, support)
        fields = self.model.encoder.user_fields
        profile_BW, _ = value_codes(fields, support.user, len(tasks))
        state = {**state, **self.lists.state(tasks.support, profile_BW)}
        levels = self.model.levels
        if levels is not None:
            of_levels = levels.state(tasks.support).items()
            state |= {name: t.to(self.model.device) for name, t in of_levels}
        return state

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
        return self.predict_query_values(tasks).value

    def predict_query_values(self, tasks: Tasks) -> ValuePredictions:
        """Return predictions of the query rows, (N,) each, after adapting to the support."""
        rows = self.rows(tasks.query, tasks)
        return self.predict_values(self.adapt(tasks), rows).of(rows.mask_BR.cpu().numpy())

    def predict_values(
        self, state: UserState, rows: Rows, predicted: Prediction | None = None
    ) -> ValuePredictions:
        """Return predictions of rows for adapted users.

        Args:
            predicted: the result of `predict` for these rows, if it is at hand.
        """
        predicted = self.predict(state, rows) if predicted is None else predicted
        units, levels = self.model.units, self.model.levels
        ranked_by_BR = predicted.ranked_by_BR
        if levels is None:
            return ValuePredictions(
                value=units.to_values(predicted.mean_BR),
                mean=units.expected_unclipped(ranked_by_BR),
                expected=units.to_expected(ranked_by_BR),
                raw=units.unclipped(ranked_by_BR),
                order=ranked_by_BR.detach().cpu().float().numpy(),
                spread=_spread(predicted, units.scale),
            )
        shares = levels.shares(self.level_inputs(levels, state, predicted, rows))
        mean_BR = shares.mean.astype(np.float32)
        return ValuePredictions(
            value=shares.median.astype(np.float32),
            mean=mean_BR,
            expected=mean_BR,
            raw=mean_BR,
            order=mean_BR,
            spread=shares.deviation,
            shares=shares,
        )

    def level_inputs(
        self, levels: LevelHead, state: UserState, predicted: Prediction, rows: Rows
    ) -> Float64Array:
        """Return (B, R, C) the inputs of the distributions over levels.

        Args:
            levels: the head of the model, or one that is being learned.
            state: the users' states, with that head's part.
            predicted: the result of `predict` for the rows.
        """
        units = self.model.units
        past_BRD = rows.statistics_BRD.cpu().numpy()
        spread_BR = _spread(predicted, units.scale)
        return levels.inputs(
            state,
            self.model.catalogue.numbers(rows),
            units.unclipped(predicted.ranked_by_BR),
            spread_BR,
            past_BRD[..., 0] * units.scale,
            past_BRD[..., 1] * POPULARITY_SCALE,
        )

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
        """Return rows for `rank_block` with the work done that no user changes. Keep them for many
        users."""
        return self.model.learner.prepare(self.params, rows)

    @property
    def settles(self) -> bool:
        """Whether the learner is a `CatalogueRanker`."""
        return ranks_catalogue(self.model.learner)

    @torch.no_grad()
    def settled(self, state: UserState, count_BI: torch.Tensor | None = None) -> UserState:
        """Return adapted users as `rank_block` and `order` read them. Call it once for many blocks.
        The result holds a number for each pair of user and item.

        Args:
            count_BI: the number of takes of each item before each user's cut time, as the list head
                counts them. If None, those at the end of the log.
        """
        learner, lists = self.model.learner, self.lists.settle(state, count_BI)
        if ranks_catalogue(learner):
            state = learner.settle(self.params, state)
        return {**state, **lists}

    @torch.no_grad()
    def rank_block(self, settled: UserState, items: Rows) -> torch.Tensor:
        """Return the scores by which lists are ordered, (B, items): see `ListHead`.

        Args:
            items: a block from `item_block`.
        """
        learner = self.model.learner
        if ranks_catalogue(learner):
            output_BR = learner.ranked_by(self.params, settled, items)
        else:
            output_BR = self.predict(settled, items).listed_by_BR
        return self.lists.scores(settled, output_BR, self.model.catalogue.numbers(items)[0])

    @torch.no_grad()
    def order(self, settled: UserState, output_BR: torch.Tensor, items: Rows) -> torch.Tensor:
        """Return the scores by which lists are ordered, (B, R), for each user's own rows.

        Args:
            output_BR: the learner's outputs, by which it ranks these rows.
        """
        return self.lists.scores(settled, output_BR, self.model.catalogue.numbers(items))


def _spread(predicted: Prediction, scale: float) -> Float64Array | None:
    """Return (B, R) the learner's own standard deviation, in units of the value."""
    if predicted.spread_BR is None:
        return None
    return np.asarray(predicted.spread_BR.detach().cpu().double().numpy() * scale)
