"""A model in memory, which adapts to users, recommends, predicts, explains and can be saved.

>>> import polars as pl, recmeta, tempfile
>>> from recmeta.testing.synthetic import SyntheticConfig, generate
>>> log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(5, 12)), seed=0)
>>> data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
>>> model = recmeta.fit(data, learner="bayesian-linear", epochs=1, progress=False)
>>> model
Recommender(bayesian-linear, 30 items)
>>> rows = pl.DataFrame({"user_id": "me", "item_id": ["i00", "i01"], "value": [5.0, 1.0]})
>>> model.recommend(rows, top_k=3).columns
['user_id', 'rank', 'item_id', 'title', 'relative_likelihood', 'score']
>>> model.predict(rows, ["i02"]).columns
['user_id', 'item_id', 'title', 'value', 'expected', 'uncertainty', 'low', 'high']
>>> model.explain(rows, "i02").item_id
'i02'
>>> folder = tempfile.mkdtemp()
>>> model.save(folder)
>>> recmeta.load(folder).recommend(rows).equals(model.recommend(rows))
True
"""

import functools
import os
from typing import Any, Generic

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmeta import schema
from recmeta.api import origin as origins
from recmeta.api.adapted import Adapted, Explore, whole_numbers
from recmeta.api.arguments import whole_number
from recmeta.api.data.columns import Columns
from recmeta.api.data.dataset import counted
from recmeta.api.data.frames import FrameT, Kind, RowsT, kind_of, out
from recmeta.api.intake import ROWS, intake, warn_of_unused
from recmeta.api.origin import Origin
from recmeta.metalearn.model import Model
from recmeta.steps.parts.explanation import Explanation
from recmeta.tasks.task_set import Objective
from recmeta.workspace import Folder, sealing


class Recommender(Generic[FrameT]):
    """A trained model, ready for users whom it has never seen.

    It takes frames of interactions of pandas, Polars or Arrow, and answers in the same library. A
    frame has the columns `user_id`, `item_id`, for ratings `value`, and optionally `timestamp`, or
    the names that these had in the data set. Without times the order of the rows counts. Columns
    with the names of the model's user attributes describe the users. A row without an item only
    names a user, who may be entirely new.
    """

    def __init__(
        self,
        model: Model,
        *,
        origin: Origin | None = None,
        seen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Hold a model. `fit` and `load` return one.

        Args:
            model: the trained model.
            origin: what the model was fitted on. It is None if a workspace knows that.
            seen: hashes of the users from whom the model learned; given together with `origin`.
        """
        self.model = model
        self.origin = origin
        self.seen = seen

    def __repr__(self) -> str:
        return f"Recommender({self.learner}, {counted(self.model.catalogue.num_items, 'item')})"

    @property
    def learner(self) -> str:
        """The name of the model's learner."""
        return self.model.config.learner_name

    @property
    def feedback(self) -> Objective:
        """The kind of feedback that the model learned from: `rating` or `implicit`."""
        return self.model.objective

    def adapt(self, rows: RowsT, *, users: Any = None) -> Adapted[RowsT]:
        """Return users, adapted to their interactions.

        Args:
            rows: a frame of interactions of one user or of many, as described for the class.
            users: a frame with a row per user: the id, and attributes that the model reads. If
                None, attributes are taken from the columns of `rows`.

        Returns:
            The users, whose `counts` say which rows were used.

        Raises:
            UserError: if a column is missing. The message names the nearest.

        Warns:
            UnusedRowsWarning: if interactions were not used. The message says how many, and why.
        """
        return self._adapted(rows, users)

    def recommend(
        self,
        rows: RowsT,
        top_k: int = 10,
        *,
        exclude_seen: bool = True,
        explore: Explore | None = None,
        users: Any = None,
    ) -> RowsT:
        """Return ranked lists for users with these interactions: `adapt`, then
        `Adapted.recommend`.

        Args:
            rows: as for `adapt`.
            top_k: the length of a list, which is shorter only if the catalogue has fewer unseen
                items.
            exclude_seen: whether a user's own items are left out of the list.
            explore: as for `Adapted.recommend`.
            users: as for `adapt`.

        Returns:
            A frame with `user_id`, `rank` (1 is the best), `item_id`, `title`, `score`.

        Raises:
            UserError: if a column is missing. The message names the nearest.

        Warns:
            UnusedRowsWarning: if interactions were not used; `adapt(rows).counts` has the counts.
        """
        return self._adapted(rows, users).recommend(
            top_k, exclude_seen=exclude_seen, explore=explore
        )

    def predict(self, rows: RowsT, items: Any, *, users: Any = None) -> RowsT:
        """Return predicted values of items, with intervals, for users with these interactions:
        `adapt`, then `Adapted.predict`.

        Args:
            rows: as for `adapt`.
            items: an id, several ids, or a frame with a column `item_id`.
            users: as for `adapt`.

        Raises:
            UserError: if a column is missing or an item is unknown. The message names the nearest.

        Warns:
            UnusedRowsWarning: if interactions were not used.
        """
        return self._adapted(rows, users).predict(items)

    def explain(
        self, rows: Any, item_id: Any, *, user_id: Any = None, users: Any = None
    ) -> Explanation:
        """Return why an item has its score for a user: the exact effect of each interaction, and
        effects of the item's features.

        Args:
            rows: as for `adapt`.
            item_id: the id of an item in the catalogue.
            user_id: the user whose score is explained. It may be None if all rows are of one user.
            users: as for `adapt`.

        Raises:
            UserError: if the item or the user is unknown, and as for `adapt`.

        Warns:
            UnusedRowsWarning: if interactions were not used.
        """
        return self._adapted(rows, users).explain(item_id, user_id)

    def items(self) -> FrameT:
        """Return the catalogue: `item_id`, the latest `title` and other attributes, and
        `num_users`, the number of users who met each item by the end of the log."""
        found: FrameT = out(self._items(), self._kind)
        return found

    def popular_items(self, count: int) -> FrameT:
        """Return the `count` items that most users met, the most popular first."""
        count = whole_number(count, "count", 0)
        table = self._items()
        order = np.argsort(-table[schema.NUM_USERS].to_numpy(), kind="stable")
        found: FrameT = out(table.take(pa.array(order[:count])), self._kind)
        return found

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model into a folder or an object store, for `recmeta.load`. Nothing in it is
        pickled.

        The folder also holds what `evaluate` needs to recognise cold users: the fingerprint of the
        interactions, and a hash of each user from whom the model learned. It holds the digest of
        every file, which `recmeta.load` checks.
        """
        with sealing(Folder.at(folder)) as place:
            self.model.save(place)
            if self.origin is not None and self.seen is not None:
                origins.write(place, self.origin, self.seen)

    @property
    def _kind(self) -> Kind:
        return "polars" if self.origin is None else self.origin.kind

    @functools.cached_property
    def _has_whole_ids(self) -> bool:
        return whole_numbers(self.model.catalogue.items.item_id)

    def _adapted(self, rows: RowsT, users: Any) -> Adapted[RowsT]:
        """Adapt for a public method, to whose caller warnings point."""
        kind = kind_of(rows, ROWS)
        columns = Columns() if self.origin is None else self.origin.columns
        found = intake(self.model, rows, users, columns)
        warn_of_unused(self.model, found, stacklevel=3)
        whole = [schema.USER_ID] if found.whole_ids else []
        if found.whole_items and self._has_whole_ids:
            whole.append(schema.ITEM_ID)
        return Adapted(self.model, found.tasks, kind=kind, counts=found.counts, whole=tuple(whole))

    def _items(self) -> pa.Table:
        catalogue = self.model.catalogue
        table = catalogue.items.attributes.take(pa.array(catalogue.items.newest()))
        num_users = catalogue.statistics.num_users[-1].astype(np.int64)
        return table.add_column(0, schema.ITEM_ID, catalogue.items.item_id).append_column(
            schema.NUM_USERS, pa.array(num_users)
        )
