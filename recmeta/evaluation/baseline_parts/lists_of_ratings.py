"""Lists from ratings, which are read as implicit feedback: the items that users took, or those that
they liked.

A rating says two things: that the item was taken, and how it was liked. Predictors of ratings read
the second; lists are better with the first (Cremonesi, Koren and Turrin, RecSys 2010). The
development users decide whether a rating that is no like counts; if ratings have two levels, the
lower one means that the item was not taken.

Legend: B users, N query rows, I items.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from recmeta.evaluation.baseline import Baseline, BaselineSearch, Config
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.measuring.catalogue_metrics import users_at_once
from recmeta.evaluation.predictor import Predictor, Scores
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListConfig:
    """The hyperparameters of a baseline that reads ratings as implicit feedback."""

    liked_only: bool
    """Whether only liked rows are read, of training users and of new ones; otherwise all taken rows
    are."""
    of: Config
    """The hyperparameters of the baseline for implicit feedback."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BothConfig:
    """The hyperparameters of a baseline that predicts ratings in one way, and lists in another."""

    values: Config
    lists: ListConfig


@dataclasses.dataclass(frozen=True)
class ListsOfRatings:
    """Orders the catalogue by a baseline for implicit feedback. A user without rows that are read
    gets the items that most users took."""

    name: str
    of: Predictor
    read_from: float | None
    """The lowest value of rows that are read. If None, all rows are."""
    count_I: Float64Array
    """The number of training rows of each item."""
    predicts_values: bool = dataclasses.field(default=False, init=False)

    def score_query(self, tasks: Tasks) -> Scores:
        """Return (N,) a score for every query row."""
        parts = [
            self.score_items(some)[some.query.task, some.query.item]
            for some in tasks.batches(users_at_once(len(self.count_I)))
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def score_items(self, tasks: Tasks) -> Scores:
        """Return (B, I) scores of the whole catalogue."""
        read = dataclasses.replace(tasks, support=_taken(tasks.support, self.read_from))
        scores_BI = np.array(self.of.score_items(read))
        scores_BI[read.support.lengths == 0] = self.count_I
        return scores_BI


@dataclasses.dataclass(frozen=True)
class ValuesAndLists:
    """Predicts ratings in one way, and orders the catalogue in another."""

    name: str
    values: Predictor
    lists: Predictor
    predicts_values: bool = dataclasses.field(default=True, init=False)

    def score_query(self, tasks: Tasks) -> Scores:
        """Return (N,) predicted values."""
        return self.values.score_query(tasks)

    def score_items(self, tasks: Tasks) -> Scores:
        """Return (B, I) scores of the whole catalogue, which are not values."""
        return self.lists.score_items(tasks)


def makes_lists(baseline: Predictor) -> bool:
    """Return whether a fitted baseline orders the catalogue by anything but predicted ratings."""
    return not baseline.predicts_values or isinstance(baseline, ValuesAndLists)


def with_lists_of_ratings(
    implicit: Baseline, values: Baseline | None = None, *, predicts_in_gate: bool = True
) -> Baseline:
    """Return a baseline for implicit feedback as one that also learns lists from ratings.

    Args:
        values: the baseline that predicts ratings under the same name, or None. In the published
            protocols, which measure predictions, it stands alone.
        predicts_in_gate: whether it predicts ratings before the gate, too.
    """
    lists = _lists(implicit)
    in_gate = values if predicts_in_gate else None

    def alone(search: BaselineSearch) -> Baseline | None:
        """Return the single part that a search tunes, or None if it tunes lists and predictions
        separately."""
        if search.objective == "implicit":
            return implicit
        return values if search.grid == "published" else None

    def candidates(search: BaselineSearch) -> Sequence[Config]:
        if (part := alone(search)) is not None:
            return part.candidates(search)
        chosen = search.chosen(lists).config
        if in_gate is None:
            return [chosen]
        return [BothConfig(values=search.chosen(in_gate).config, lists=chosen)]

    def fit_all(
        search: BaselineSearch, train: Tasks, configs: Sequence[Config]
    ) -> Iterator[Predictor]:
        if (part := alone(search)) is not None:
            yield from part.fit_all(search, train, configs)
            return
        for config in configs:
            if in_gate is None:
                yield _fitted(search, lists, train, config)
            else:
                yield ValuesAndLists(
                    implicit.name,
                    _fitted(search, in_gate, train, config.values),
                    _fitted(search, lists, train, config.lists),
                )

    def default(search: BaselineSearch) -> Config:
        part = alone(search)
        return (candidates if part is None else _default_of(part))(search)[0]

    return dataclasses.replace(
        implicit,
        candidates=candidates,
        fit_all=fit_all,
        default=default,
        refinements=tuple(_if_implicit(refine) for refine in implicit.refinements),
        objectives=("rating", "implicit"),
        lists_only=values is None,
    )


def _lists(implicit: Baseline) -> Baseline:
    """Return the part that makes lists from ratings, with candidates of its own."""

    def candidates(search: BaselineSearch) -> list[ListConfig]:
        taken = training_rows(search.train).taken(search.taken_from)
        is_liked = taken.value >= search.liked_from
        differ = is_liked.any() and not is_liked.all()
        found = implicit.candidates(_as_implicit(search))
        return [
            ListConfig(liked_only=liked_only, of=config)
            for liked_only in ([False, True] if differ else [False])
            for config in found
        ]

    def fit_all(
        search: BaselineSearch, train: Tasks, configs: Sequence[ListConfig]
    ) -> Iterator[Predictor]:
        inner = _as_implicit(search)
        for liked_only, some in itertools.groupby(configs, lambda config: config.liked_only):
            read_from = search.liked_from if liked_only else search.taken_from
            read = dataclasses.replace(
                train,
                support=_taken(train.support, read_from),
                query=_taken(train.query, read_from),
            )
            count_I = np.bincount(training_rows(read).item, minlength=search.num_items)
            for of in implicit.fit_all(inner, read, [config.of for config in some]):
                yield ListsOfRatings(implicit.name, of, read_from, count_I.astype(np.float64))

    def lifted(
        refine: Callable[[BaselineSearch, Config], Sequence[Config]],
    ) -> Callable[[BaselineSearch, ListConfig], Sequence[ListConfig]]:
        return lambda search, best: [
            dataclasses.replace(best, of=config) for config in refine(_as_implicit(search), best.of)
        ]

    return Baseline(
        name=f"{implicit.name}-lists",
        candidates=candidates,
        fit_all=fit_all,
        default=lambda search: ListConfig(
            liked_only=False, of=_default_of(implicit)(_as_implicit(search))[0]
        ),
        refinements=tuple(lifted(refine) for refine in implicit.refinements),
        lists_only=True,
        library=implicit.library,
    )


def _as_implicit(search: BaselineSearch) -> BaselineSearch:
    return dataclasses.replace(search, objective="implicit")


def _default_of(baseline: Baseline) -> Callable[[BaselineSearch], Sequence[Config]]:
    default = baseline.default
    return baseline.candidates if default is None else lambda search: [default(search)]


def _if_implicit(
    refine: Callable[[BaselineSearch, Config], Sequence[Config]],
) -> Callable[[BaselineSearch, Config], Sequence[Config]]:
    return lambda search, best: refine(search, best) if search.objective == "implicit" else []


def _fitted(search: BaselineSearch, part: Baseline, train: Tasks, config: Config) -> Predictor:
    """Return a part fitted to these rows. If they are those that it was judged with, it is not
    fitted again."""
    found = search.chosen(part)
    if found.predictor is not None and train is search.train and found.config == config:
        return found.predictor
    return next(iter(part.fit_all(search, train, [config])))


def _taken(rows: Ragged, read_from: float | None) -> Ragged:
    """Return the rows with at least a value as positives, each with value 1."""
    kept = rows.taken(read_from)
    return dataclasses.replace(kept, value=np.ones_like(kept.value))
