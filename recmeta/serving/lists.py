"""Lists as they are published: ranked items, how far each score may be off, and why it is there.

Legend: B users, k list length, N support rows of all users.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from recmeta.metalearn.model import FloatArray, Model
from recmeta.serving.explanations import support_effects
from recmeta.serving.ranking import AdaptedUsers, Ranker, ScoringConfig
from recmeta.tasks.task_set import Ragged, Tasks

IntArray = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Lists:
    """The lists of B users. Places past a list's end have item -1."""

    item_Bk: IntArray
    score_Bk: FloatArray
    """As in `RankedLists`."""
    uncertainty_Bk: FloatArray
    """Standard deviation of what the user would give, in units of the value; NaN where the model
    knows none."""
    because_Bk: IntArray
    """The item of the user's interaction that raised the score most; -1 where none did."""


class ListMaker:
    """Makes lists by one model and configuration; to be made once for many calls."""

    def __init__(self, model: Model, config: ScoringConfig) -> None:
        self.model = model
        self.config = config
        self.ranker = Ranker(model, config)

    def make(self, users: AdaptedUsers, tasks: Tasks) -> Lists:
        """Return the lists of adapted users.

        Args:
            tasks: what the users were adapted to, in the same order.
        """
        ranked = self.ranker.rank(users)
        item_Bk = ranked.item_Bk
        return Lists(
            item_Bk,
            ranked.score_Bk,
            deviations(self.model, users, tasks, item_Bk),
            self._reasons(tasks, item_Bk),
        )

    def _reasons(self, tasks: Tasks, item_Bk: IntArray) -> IntArray:
        if not self.config.reasons or not len(tasks.support.item):
            return np.full(item_Bk.shape, -1, np.int64)
        row_Bk = support_effects(self.model, tasks, item_Bk).best_reason()
        return np.where(row_Bk >= 0, tasks.support.item[np.maximum(row_Bk, 0)], -1).astype(np.int64)


def deviations(model: Model, users: AdaptedUsers, tasks: Tasks, item_Bk: IntArray) -> FloatArray:
    """Return (B, k) standard deviations of users' items; NaN where there is none to tell of."""
    found = np.full(item_Bk.shape, np.nan, np.float32)
    if model.uncertainty is None or not item_Bk.size:
        return found
    predicted = model.predict_rows(users.state, dataclasses.replace(tasks, query=asked(item_Bk)))
    assert predicted.deviation_N is not None
    return np.where(item_Bk >= 0, predicted.deviation_N.reshape(item_Bk.shape), found).astype(
        np.float32
    )


def asked(item_Bk: IntArray) -> Ragged:
    """Return items as the queries of B tasks; item 0 stands where there is none."""
    num_users, length = item_Bk.shape
    return Ragged(
        np.arange(num_users + 1) * length,
        np.maximum(item_Bk, 0).reshape(-1).astype(np.int32),
        np.zeros(item_Bk.size, np.float32),
        np.zeros(item_Bk.size, np.bool_),
    )
