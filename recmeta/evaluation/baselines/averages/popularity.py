"""Recent popularity, the same list for every user: the baseline to beat for ranking."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, each
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.item_history import ItemHistory, half_lives
from recmeta.tasks.task_set import Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class PopularityConfig:
    """How fast takes are forgotten."""

    half_life_days: float | None = None
    """The number of days after which an event counts half. If None, old events count as new ones
    do."""

    def __post_init__(self) -> None:
        if self.half_life_days is not None and not self.half_life_days > 0:
            raise UserError(f"half_life_days is {self.half_life_days}; it must be above 0.")


@dataclasses.dataclass(frozen=True)
class Popularity:
    """Scores an item by the number of users who had taken it before the user's cut time, recent
    takes counting more. Every rating is a take, except the lower of two levels.

    So it knows the past that the model knows, and nothing after it. If tasks are not cut by time,
    it counts the meta-training users who took the item.
    """

    history: ItemHistory
    config: PopularityConfig = PopularityConfig()
    name: ClassVar[str] = "popularity"
    predicts_values: ClassVar[bool] = False

    @classmethod
    def fit(
        cls,
        train: Tasks,
        num_items: int,
        history: ItemHistory | None = None,
        config: PopularityConfig | None = None,
        taken_from: float | None = None,
    ) -> "Popularity":
        """Count users per item: in the history or, if that is absent or has no times, over the
        support and query rows of the meta-training tasks.

        Args:
            taken_from: see `TaskSetSpec`; the history holds only taken items already.

        Raises:
            ValueError: for a half-life without times.
        """
        if history is None or not history.has_times:
            rows = training_rows(train).taken(taken_from)
            item = np.unique(rows.task * num_items + rows.item) % num_items
            history = ItemHistory(time=None, item=item.astype(np.int32), num_items=num_items)
        return cls(history, config or PopularityConfig())

    @functools.cached_property
    def num_users(self) -> Float32Array:
        """(I,) the present counts."""
        return self.history.now(self.config.half_life_days)

    def score_query(self, tasks: Tasks) -> Float32Array:
        """Return (N,) the count of each row's item at the user's cut time."""
        query = tasks.query
        if not self.history.has_times:
            return self.num_users[query.item]
        cut_time_N = tasks.cut_time[query.task]
        return self.history.counts_of(cut_time_N, query.item, self.config.half_life_days)

    def score_items(self, tasks: Tasks) -> Float32Array:
        """Return (B, I) the items' counts at each user's cut time; without times, the same for all
        users."""
        if not self.history.has_times:
            return np.broadcast_to(self.num_users, (len(tasks), len(self.num_users)))
        return self.history.counts(tasks.cut_time, self.config.half_life_days)


def _candidates(search: BaselineSearch) -> list[PopularityConfig]:
    """Return the half-lives to try. None comes first, since it is the simplest of equals."""
    if search.history is None:
        return [PopularityConfig()]
    return [PopularityConfig(half_life_days=days) for days in reversed(half_lives(search.history))]


def _fit(search: BaselineSearch, train: Tasks, config: PopularityConfig) -> Popularity:
    return Popularity.fit(train, search.num_items, search.history, config, search.taken_from)


BASELINE = Baseline(
    name=Popularity.name,
    candidates=_candidates,
    fit_all=each(_fit),
    default=lambda search: PopularityConfig(),
    objectives=("rating", "implicit"),
    known_items_only=True,
    lists_only=True,
)
