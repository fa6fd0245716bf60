"""Users after adaptation: what to recommend them, what they would say, and why.

>>> import pandas as pd
>>> import recmeta
>>> champion = recmeta.open_workspace("workspace").champion
>>> rows = champion.popular_items(3)[["item_id"]].assign(user_id="me", value=[5.0, 4.0, 1.0])
>>> me = champion.adapt(rows)
>>> me.first(1)
Adapted(1 user, 1 interaction)
>>> why = me.explain(me.recommend(1)["item_id"][0])
>>> len(why.support), why.user_id
(3, 'me')
>>> list(me.predict(champion.items()["item_id"][:2]).columns)
['user_id', 'item_id', 'title', 'value', 'expected', 'uncertainty', 'low', 'high']
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.analysis.picture import Picture
from recmeta.errors import UserError
from recmeta.metalearn.heads.uncertainty import LEVELS
from recmeta.metalearn.model import Model
from recmeta.metalearn.predicted_rows import predict_query
from recmeta.metalearn.scorer import Scorer
from recmeta.registry import frames
from recmeta.reporting.explanation_plot import explanation
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.serving import explain
from recmeta.tasks.task_set import Ragged, Tasks

LEVEL = 0.9
"""Of the intervals of predictions."""


class Adapted:
    """Some users whose few interactions the model knows."""

    def __init__(self, model: Model, tasks: Tasks) -> None:
        self.model = model
        self.tasks = tasks

    def __repr__(self) -> str:
        num_users, num_rows = len(self.tasks), len(self.tasks.support.item)
        return f"Adapted({_count(num_users, 'user')}, {_count(num_rows, 'interaction')})"

    def first(self, num_shots: int) -> "Adapted":
        """Return the same users as they were after their first interactions."""
        return Adapted(self.model, self.tasks.with_shots(num_shots))

    def interactions(self) -> pd.DataFrame:
        """Return what is known of the users: `user_id`, `item_id`, `title`, `value`, in the order
        of time."""
        support = self.tasks.support
        items = self.model.catalogue.items
        return pd.DataFrame(
            {
                schema.USER_ID: np.array(self.tasks.user_id, dtype=object)[support.task],
                schema.ITEM_ID: items.item_id.take(pa.array(support.item)).to_pandas(),
                schema.TITLE: items.names().take(pa.array(support.item)).to_pandas(),
                schema.VALUE: support.value,
            }
        )

    def recommend(self, top_k: int = 10, *, exclude_seen: bool = True) -> pd.DataFrame:
        """Return ranked lists: `user_id`, `rank`, `item_id`, `title`, `score`; see docs/tables.md.

        Args:
            exclude_seen: whether a user's own items stay out of the list.
        """
        config = ScoringConfig(top_k=top_k, exclude_seen=exclude_seen)
        scorer, names = Scorer.of(self.model), self.model.catalogue.items.names()
        found = [
            frames.lists(scorer, some, names, config)
            for some in self.tasks.batches(config.user_batch)
        ]
        return pa.concat_tables(found).to_pandas()

    def predict(self, item_ids: Iterable[str]) -> pd.DataFrame:
        """Return what each user would give each item, a row per user and item.

        Returns:
            `user_id`, `item_id`, `title`, `value`, which has the least error; for ratings also
            `expected`, the mean value, `uncertainty`, the standard deviation, and the interval
            `low` to `high` around `expected` that holds for nine values of ten, not cut at the ends
            of the scale. The last three are NaN for a model that was trained without them.

        Raises:
            UserError: for an item that the catalogue does not have.
        """
        items = self.model.catalogue.items
        ids = pa.array([str(i) for i in item_ids], pa.string())
        number = pc.index_in(ids, items.item_id)
        if number.null_count:
            missing = ids.filter(number.is_null())[0].as_py()
            raise UserError(f"the model's catalogue has no item {missing!r}.")
        num_users = len(self.tasks)
        asked_N = np.tile(number.to_numpy().astype(np.int32), num_users)
        query = Ragged(
            np.arange(num_users + 1, dtype=np.int64) * len(ids),
            asked_N,
            np.zeros(len(asked_N), np.float32),
            np.zeros(len(asked_N), np.bool_),
        )
        tasks = dataclasses.replace(self.tasks, query=query)
        found = predict_query(Scorer.of(self.model), tasks)
        frame = pd.DataFrame(
            {
                schema.USER_ID: np.repeat(np.array(tasks.user_id, dtype=object), len(ids)),
                schema.ITEM_ID: items.item_id.take(pa.array(asked_N)).to_pandas(),
                schema.TITLE: items.names().take(pa.array(asked_N)).to_pandas(),
                schema.VALUE: found.value_N,
            }
        )
        if self.model.objective == "rating":
            known = self.model.uncertainty
            deviation_N = np.full(len(frame), np.nan)
            factor = np.nan
            if known is not None and found.deviation_N is not None:
                deviation_N, factor = found.deviation_N, known.factors[LEVELS.index(LEVEL)]
            frame["expected"] = found.expected_N
            frame["uncertainty"] = deviation_N
            frame["low"] = found.expected_N - factor * deviation_N
            frame["high"] = found.expected_N + factor * deviation_N
        return frame

    def explain(self, item_id: str, user_id: str | None = None) -> explain.Explanation:
        """Return why an item has its score: the exact effect of each interaction, and effects of
        the item's features.

        Args:
            user_id: one of the users; None where there is one alone.

        Raises:
            UserError: for an unknown item or user.
        """
        return explain.explain(self.model, self._one(user_id), item_id)

    def plot_explanation(self, item_id: str, user_id: str | None = None) -> Picture:
        """Return the picture of that explanation.

        >>> import recmeta
        >>> workspace = recmeta.open_workspace("workspace")
        >>> someone = workspace.champion.user(workspace.tasks("test")["user_id"][0])
        >>> someone.plot_explanation(someone.recommend(1)["item_id"][0])
        Picture(... KiB, PNG)
        """
        unit = "in units of the value" if self.model.objective == "rating" else "a logit"
        found = self.explain(item_id, user_id).to_dict()
        return Picture(explanation(found, unit=unit))

    def _one(self, user_id: str | None) -> Tasks:
        ids = self.tasks.user_id
        if user_id is None and len(ids) == 1:
            return self.tasks
        if user_id not in ids:
            raise UserError(f"user_id is {user_id!r}; it must be one of {', '.join(ids[:10])}.")
        return self.tasks.take(np.array([ids.index(user_id)]))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
