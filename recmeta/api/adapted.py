"""Users after adaptation: lists, predicted values and explanations.

>>> import polars as pl, recmeta
>>> from recmeta.testing.synthetic import SyntheticConfig, generate
>>> log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(5, 12)), seed=0)
>>> data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
>>> model = recmeta.fit(data, learner="bayesian-linear", epochs=1, progress=False)
>>> rows = pl.DataFrame({"user_id": "me", "item_id": ["i00", "i01"], "value": [5.0, 1.0]})
>>> me = model.adapt(rows)
>>> me
Adapted(1 user, 2 interactions)
>>> me.recommend(top_k=3)["rank"].to_list()
[1, 2, 3]
>>> me.first(1).counts.used, me.interactions()["item_id"].to_list()
(2, ['i00', 'i01'])
>>> why = me.explain(me.recommend(1)["item_id"][0])
>>> len(why.support), why.user_id
(2, 'me')
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Generic

import numpy as np
import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.api.arguments import id_text, ids_of, whole_number
from recmeta.api.data.dataset import counted
from recmeta.api.data.frames import FrameT, Kind, out
from recmeta.api.intake import AdaptCounts
from recmeta.config import parse
from recmeta.errors import UserError, listed, shown
from recmeta.metalearn.heads.uncertainty import LEVELS
from recmeta.metalearn.model import Model
from recmeta.metalearn.predicted_rows import predict_query
from recmeta.metalearn.scorer import Scorer
from recmeta.reporting.picture import Picture
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.serving.list_table import lists
from recmeta.serving.ranking import ScoringConfig
from recmeta.serving.spelling import number_of, numbers_of
from recmeta.steps.parts.explanation import Explanation, explain
from recmeta.tasks.task_set import Ragged, Tasks

Explore = ExploreConfig | Mapping[str, Any]
"""How lists explore, or the values that differ from the defaults."""
LEVEL = 0.9
"""The level of the intervals of predictions."""


class Adapted(Generic[FrameT]):
    """Users to whose interactions a model has adapted.

    Frames are returned in the library of the frame of interactions; ids that came in as whole
    numbers are returned as whole numbers.
    """

    def __init__(
        self,
        model: Model,
        tasks: Tasks,
        *,
        kind: Kind,
        counts: AdaptCounts | None = None,
        whole: tuple[str, ...] = (),
    ) -> None:
        """Hold users. `Recommender.adapt` makes them from a frame.

        Args:
            model: the model that adapts.
            tasks: the users' interactions as support.
            kind: the library of the frames that are returned.
            counts: what became of the rows. If None, every row was used.
            whole: the columns of ids that are returned as whole numbers.
        """
        self.model = model
        self.tasks = tasks
        self.kind = kind
        self.counts = _all_used(tasks) if counts is None else counts
        """What became of the rows that were given."""
        self._whole = whole

    def __repr__(self) -> str:
        num_users, num_rows = len(self.tasks), len(self.tasks.support.item)
        return f"Adapted({counted(num_users, 'user')}, {counted(num_rows, 'interaction')})"

    def first(self, num_shots: int) -> "Adapted[FrameT]":
        """Return the same users as they were after their first interactions."""
        return Adapted(
            self.model,
            self.tasks.with_shots(whole_number(num_shots, "num_shots", 0)),
            kind=self.kind,
            counts=self.counts,
            whole=self._whole,
        )

    def interactions(self) -> FrameT:
        """Return the interactions that the model adapted to, in the order of time: `user_id`,
        `item_id`, `title`, `value`."""
        support = self.tasks.support
        ids = pa.array(self.tasks.user_id, pa.string())
        return self._out(
            {
                schema.USER_ID: ids.take(pa.array(support.task)),
                **self._named(support.item),
                schema.VALUE: pa.array(support.value),
            }
        )

    def recommend(
        self, top_k: int = 10, *, exclude_seen: bool = True, explore: Explore | None = None
    ) -> FrameT:
        """Return ranked lists: `user_id`, `rank`, `item_id`, `title`, `relative_likelihood` and
        `score`; see docs/tables.md.

        Args:
            top_k: the length of a list, which is shorter only if the catalogue has fewer unseen
                items.
            exclude_seen: whether a user's own items are left out of the list.
            explore: how lists try items of which the model is not sure, such as `{"share": 0.2}`
                (`ExploreConfig`, docs/how-to/exploration.md). Such lists also have `listed_by`, and
                `propensity`, the probability with which the item is there. If None, lists do not
                explore.

        Raises:
            UserError: if `explore` has an unknown key or value, or the learner has no posterior.
        """
        top_k = whole_number(top_k, "top_k", 1)
        if isinstance(explore, Mapping):
            explore = parse(ExploreConfig, explore, "explore")
        config = ScoringConfig(top_k=top_k, exclude_seen=exclude_seen, explore=explore)
        scorer, names = Scorer.of(self.model), self.model.catalogue.items.names()
        found = [
            lists(scorer, some, names, config) for some in self.tasks.batches(config.user_batch)
        ]
        table = pa.concat_tables(found)
        return self._out({name: table[name] for name in table.column_names})

    def predict(self, items: Any) -> FrameT:
        """Return the predicted value of each item for each user, a row per user and item.

        Args:
            items: an id, several ids, or a frame with a column `item_id`.

        Returns:
            A frame with `user_id`, `item_id`, `title` and `value`, the prediction whose error is
            least. For ratings it also has `expected`, the mean, `uncertainty`, the
            standard deviation, and the interval from `low` to `high` around `expected` that
            contains nine values of ten and may exceed the scale. The last three are NaN if the
            model was trained without them.

        Raises:
            UserError: if an item is not in the catalogue.
        """
        number = self._numbers(items)
        num_users = len(self.tasks)
        asked_N = np.tile(number, num_users)
        query = Ragged(
            np.arange(num_users + 1, dtype=np.int64) * len(number),
            asked_N,
            np.zeros(len(asked_N), np.float32),
            np.zeros(len(asked_N), np.bool_),
        )
        tasks = dataclasses.replace(self.tasks, query=query)
        found = predict_query(Scorer.of(self.model), tasks)
        columns: dict[str, pa.Array] = {
            schema.USER_ID: pa.array(tasks.user_id, pa.string()).take(pa.array(query.task)),
            **self._named(asked_N),
            schema.VALUE: pa.array(found.value_N),
        }
        if self.model.objective == "rating":
            known = self.model.uncertainty
            deviation_N = np.full(len(asked_N), np.nan)
            factor = np.nan
            if known is not None and found.deviation_N is not None:
                deviation_N, factor = found.deviation_N, known.factors[LEVELS.index(LEVEL)]
            columns["expected"] = pa.array(found.expected_N)
            columns["uncertainty"] = pa.array(deviation_N)
            columns["low"] = pa.array(found.expected_N - factor * deviation_N)
            columns["high"] = pa.array(found.expected_N + factor * deviation_N)
        return self._out(columns)

    def explain(self, item_id: Any, user_id: Any = None) -> Explanation:
        """Return why an item has its score: the exact effect of each interaction, and effects of
        the item's features.

        Args:
            item_id: the id of an item in the catalogue.
            user_id: the id of one of the users. It may be None if there is only one.

        Raises:
            UserError: if the item or the user is unknown.
        """
        return explain(self.model, self._one(user_id), id_text(item_id, "item_id"))

    def plot_explanation(self, item_id: Any, user_id: Any = None) -> Picture:
        """Return a picture of the same explanation, which notebooks show.

        Raises:
            UserError: if the item or the user is unknown, or Matplotlib is not installed.
        """
        from recmeta.reporting.explanation_plot import explanation

        unit = "in units of the value" if self.model.objective == "rating" else "a logit"
        found = self.explain(item_id, user_id).to_dict()
        return Picture.drawn(lambda: explanation(found, unit=unit))

    def _numbers(self, items: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Return the numbers of items in the catalogue."""
        catalogue = self.model.catalogue
        ids = pa.array(ids_of(items, "items"), pa.string())
        number = numbers_of(catalogue.lookup, ids)
        for place in np.flatnonzero(number < 0)[:1]:  # only for its message
            number_of(catalogue.items, catalogue.lookup, ids[int(place)].as_py())
        return number.astype(np.int32)

    def _named(self, item_N: np.ndarray[Any, np.dtype[np.int32]]) -> dict[str, pa.Array]:
        items, place = self.model.catalogue.items, pa.array(item_N)
        return {
            schema.ITEM_ID: items.item_id.take(place),
            schema.TITLE: items.names().take(place),
        }

    def _one(self, user_id: Any) -> Tasks:
        ids = self.tasks.user_id
        if user_id is None and len(ids) == 1:
            return self.tasks
        wanted = None if user_id is None else id_text(user_id, "user_id")
        if wanted is None or wanted not in ids:
            raise UserError(f"user_id is {shown(user_id)}; it must be one of {listed(ids)}.")
        return self.tasks.take(np.array([ids.index(wanted)]))

    def _out(self, columns: dict[str, pa.Array]) -> FrameT:
        typed = {
            name: column.cast(pa.int64()) if name in self._whole else column
            for name, column in columns.items()
        }
        found: FrameT = out(pa.table(typed), self.kind)
        return found


def whole_numbers(ids: pa.Array) -> bool:
    """Return whether ids are whole numbers in their usual form, so that they can be returned as
    numbers."""
    numbers = pl.Series(ids).cast(pl.Int64, strict=False)
    return bool(numbers.null_count() == 0 and (numbers.cast(pl.String) == pl.Series(ids)).all())


def _all_used(tasks: Tasks) -> AdaptCounts:
    lengths = tasks.support.lengths
    return AdaptCounts(
        rows=int(lengths.sum()),
        users=len(tasks),
        used=int(lengths.sum()),
        duplicates=0,
        unknown_items=0,
        bad_values=0,
        without_interactions=int((lengths == 0).sum()),
        without_profile=0,
        bad_rows=0,
    )
