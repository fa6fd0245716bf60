"""A model in hand: adapt it to users, recommend, predict, explain, save it.

>>> import polars as pl, recmeta, tempfile
>>> from recmeta.testing.synthetic import SyntheticConfig, generate
>>> log = generate(SyntheticConfig(num_users=60, num_items=30, rows_per_user=(5, 12)), seed=0)
>>> data = recmeta.Dataset.from_frame(log.interactions, items=log.items, users=log.users)
>>> model = recmeta.fit(data, learner="bayesian-linear", epochs=1, progress=False)
>>> model
Recommender(bayesian-linear, 30 items)
>>> rows = pl.DataFrame({"user_id": "me", "item_id": ["i00", "i01"], "value": [5.0, 1.0]})
>>> model.recommend(rows, top_k=3).columns
['user_id', 'rank', 'item_id', 'title', 'score']
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
from recmeta.api.adapted import Adapted, whole_numbers
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

    Whatever frame of interactions it is given, pandas, Polars or Arrow, the answer is of the same
    library. The frame has the columns `user_id`, `item_id`, for ratings `value`, and perhaps
    `timestamp` (without times the rows' order is the order), or the names that they had in the data
    set. Further columns that are named as the model's user attributes describe the users. A row
    whose item is missing only names a user, of whom nothing else need be known.
    """

    def __init__(
        self,
        model: Model,
        *,
        origin: Origin | None = None,
        seen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Hold a model; `fit` and `load` make it.

        Args:
            origin: what it was fitted on; None: a workspace knows.
            seen: hashes of the users whom it learned from; comes with `origin`.
        """
        self.model = model
        self.origin = origin
        self.seen = seen

    def __repr__(self) -> str:
        return f"Recommender({self.learner}, {counted(self.model.catalogue.num_items, 'item')})"

    @property
    def learner(self) -> str:
        """The name of its learner."""
        return self.model.config.learner_name

    @property
    def feedback(self) -> Objective:
        """What it learned from: `rating` or `implicit`."""
        return self.model.objective

    def adapt(self, rows: RowsT, *, users: Any = None) -> Adapted[RowsT]:
        """Return users, adapted to their interactions.

        Args:
            rows: a frame of interactions of one user or of many, as the class says.
            users: a frame with a row per user: the id, and attributes that the model reads. None:
                those among the columns of `rows`.

        Returns:
            The users; `counts` says what became of the rows.

        Raises:
            UserError: for a missing column, naming the nearest.

        Warns:
            UnusedRowsWarning: where interactions were not used, with how many and why.
        """
        return self._adapted(rows, users)

    def recommend(
        self,
        rows: RowsT,
        top_k: int = 10,
        *,
        exclude_seen: bool = True,
        users: Any = None,
    ) -> RowsT:
        """Return ranked lists for users with these interactions: `adapt`, then
        `Adapted.recommend`.

        Args:
            rows: as `adapt`.
            top_k: length of a list; shorter only where the catalogue has fewer unseen items.
            exclude_seen: whether a user's own items stay out of the list.
            users: as `adapt`.

        Returns:
            `user_id`, `rank` (1 is the best), `item_id`, `title`, `score`.

        Raises:
            UserError: for a missing column, naming the nearest.

        Warns:
            UnusedRowsWarning: where interactions were not used; `adapt(rows).counts` has the
                counts.
        """
        return self._adapted(rows, users).recommend(top_k, exclude_seen=exclude_seen)

    def predict(self, rows: RowsT, items: Any, *, users: Any = None) -> RowsT:
        """Return what users with these interactions would give items, with intervals: `adapt`, then
        `Adapted.predict`.

        Args:
            rows: as `adapt`.
            items: an id, several, or a frame with a column `item_id`.
            users: as `adapt`.

        Raises:
            UserError: for a missing column or an unknown item, naming the nearest.

        Warns:
            UnusedRowsWarning: where interactions were not used.
        """
        return self._adapted(rows, users).predict(items)

    def explain(
        self, rows: Any, item_id: Any, *, user_id: Any = None, users: Any = None
    ) -> Explanation:
        """Return why an item has its score for a user: the exact effect of each interaction, and
        effects of the item's features.

        Args:
            rows: as `adapt`.
            item_id: of an item in the catalogue.
            user_id: whose score; None where the rows are of one user.
            users: as `adapt`.

        Raises:
            UserError: for an unknown item or user, and as `adapt`.

        Warns:
            UnusedRowsWarning: where interactions were not used.
        """
        return self._adapted(rows, users).explain(item_id, user_id)

    def items(self) -> FrameT:
        """Return the catalogue: `item_id`, `title` and other attributes as known last, and
        `num_users` who met each item by the end of the log."""
        found: FrameT = out(self._items(), self._kind)
        return found

    def popular_items(self, count: int) -> FrameT:
        """Return the items that most users met, the most popular first."""
        count = whole_number(count, "count", 0)
        table = self._items()
        order = np.argsort(-table[schema.NUM_USERS].to_numpy(), kind="stable")
        found: FrameT = out(table.take(pa.array(order[:count])), self._kind)
        return found

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model into a folder or an object store, for `recmeta.load`; nothing in it is
        pickled.

        Beside the model stands what `evaluate` needs to know its cold users by: the fingerprint of
        the interactions, and a hash of each user whom it learned from; and the digest of every
        file, which `recmeta.load` checks.
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
        """Adapt on behalf of a method that was called from outside, whom a warning points to."""
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
