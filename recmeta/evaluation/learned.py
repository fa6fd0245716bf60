"""A meta-learned model as a predictor, to be compared with baselines."""

import numpy as np
import torch

from recmeta.evaluation.predictor import QueryScores
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.schema import END_OF_TIME
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Tasks

USERS_AT_ONCE = 256
ITEMS_AT_ONCE = 2048


class LearnedPredictor:
    """Adapts to each task's support, then predicts."""

    def __init__(self, name: str, model: Model, history: ItemHistory | None = None) -> None:
        """
        Args:
            history: the events of the items, from which popularity at each cut time is counted. If
                None, popularity is that of the statistics' snapshots.
        """
        self.name = name
        self.scorer = Scorer.of(model)
        self.history = history
        self.predicts_values = model.objective == "rating"

    def score_query(self, tasks: Tasks) -> Float32Array:
        """Return a prediction for each of the N query rows."""
        parts = [self.scorer.score_query(some) for some in tasks.batches(USERS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def query_scores(self, tasks: Tasks) -> QueryScores:
        """Return predictions of the query rows, which may be medians, their expected values, and
        the values that order the rows: in units of the model, since medians and clipping would
        produce many ties."""
        parts = [self.scorer.predict_query_values(some) for some in tasks.batches(USERS_AT_ONCE)]
        nothing = [np.zeros(0, np.float32)]
        return QueryScores(
            value_N=np.concatenate([p.value for p in parts] or nothing),
            mean_N=np.concatenate([p.expected for p in parts] or nothing),
            order_N=np.concatenate([p.order for p in parts] or nothing),
        )

    def score_items(self, tasks: Tasks) -> Float32Array:
        """Return scores (B, I) of the whole catalogue, with statistics at each cut time.

        Lists are ordered by them. They are in units of the model and not clipped, so that the best
        items do not tie.
        """
        catalogue = self.scorer.model.catalogue
        num_items = catalogue.num_items
        count_BI = torch.from_numpy(self._counts(tasks)).to(self.scorer.model.device)
        scores = np.empty((len(tasks), num_items), np.float32)
        # Without versions of items, their features depend only on the snapshot.
        time_B = tasks.cut_time if catalogue.has_versions else np.full(len(tasks), END_OF_TIME)
        moments = np.stack([tasks.snapshot.astype(np.int64), time_B])
        for snapshot, cut_time in np.unique(moments, axis=1).T:
            chosen = np.flatnonzero((tasks.snapshot == snapshot) & (time_B == cut_time))
            settled = self.scorer.settled(
                self.scorer.adapt(tasks.take(chosen)), count_BI[torch.from_numpy(chosen)]
            )
            for first in range(0, num_items, ITEMS_AT_ONCE):
                last = min(first + ITEMS_AT_ONCE, num_items)
                items = self.scorer.item_block(int(snapshot), int(cut_time), first, last)
                scores[chosen, first:last] = self.scorer.rank_block(settled, items).cpu().numpy()
        return scores

    def _counts(self, tasks: Tasks) -> Float32Array:
        """Return (B, I) the number of takes of items before the cut times, as lists count them."""
        history, lists = self.history, self.scorer.lists
        if history is None:
            return self.scorer.model.catalogue.statistics.num_users[tasks.snapshot]
        half_life = lists.half_life_days if history.has_times else None
        return history.counts(tasks.cut_time, half_life)
