"""The per-user metrics of all predictors, computed for a batch of users at a time.

Legend: B users of a batch, U all users, I items.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from recmeta.evaluation.measuring import catalogue_ranking
from recmeta.evaluation.measuring.catalogue_metrics import ranking_metrics, users_at_once
from recmeta.evaluation.metric import (
    CatalogueMetric,
    ErrorMetric,
    ExposureMetric,
    Metric,
    OrderMetric,
    TopLists,
)
from recmeta.evaluation.predictor import Predictor, Scores, query_scores
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks, TaskSetSpec

M = TypeVar("M", bound=Metric)


class Runner(Protocol):
    """Who does units of work: this process, or several, as `recmeta.engine.run.run` has it."""

    def __call__(
        self, make: Callable[[], Callable[[Any], Any]], keys: Iterable[Any]
    ) -> Iterator[Any]:
        """Yield the results of the keys, in their order, of what `make` makes for each worker."""
        ...


def here(make: Callable[[], Callable[[Any], Any]], keys: Iterable[Any]) -> Iterator[Any]:
    """Do the units of work in this process."""
    return map(make(), keys)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricSelection:
    """The metrics to compute."""

    metrics: tuple[Metric, ...]
    ks: tuple[int, ...]
    """The cut-offs of the metrics that have one."""
    num_negatives: int
    """The number of negatives sampled per user for sampled ranking; 0 for no sampled ranking."""
    relevant_from: float
    """The smallest value of a relevant item."""

    def of_kind(self, kind: type[M]) -> tuple[M, ...]:
        """Return the metrics of one kind."""
        return tuple(metric for metric in self.metrics if isinstance(metric, kind))

    @property
    def reads_catalogue(self) -> bool:
        """Whether any metric needs scores of the whole catalogue."""
        return bool(self.of_kind(CatalogueMetric) or self.of_kind(ExposureMetric))


@dataclasses.dataclass(frozen=True)
class Measured:
    """Per-user metrics, and the lists."""

    per_user: dict[str, dict[str, Float64Array]]
    """The metrics (U,) by predictor and name."""
    lists: dict[str, TopLists]
    """Each user's best items by predictor, as many as the largest cut-off; empty if the selection
    has no metric that reads them."""


def measure(
    predictors: Mapping[str, Predictor],
    tasks: Tasks,
    spec: TaskSetSpec,
    selection: MetricSelection,
    batch_size: int,
    generator: np.random.Generator,
    num_shots: int | None = None,
    num_users_I: IntArray | None = None,
    without_lists: Collection[str] = (),
    run: Runner = here,
) -> Measured:
    """Return the metrics of every predictor for every user.

    Args:
        num_shots: the number of support rows that predictors see, or None for all.

    The other arguments are those of `measure_at`.
    """
    (found,) = measure_at(
        [num_shots],
        predictors,
        tasks,
        spec,
        selection,
        batch_size,
        generator,
        num_users_I,
        without_lists,
        run,
    )
    return found


def measure_at(
    shots: Sequence[int | None],
    predictors: Mapping[str, Predictor],
    tasks: Tasks,
    spec: TaskSetSpec,
    selection: MetricSelection,
    batch_size: int,
    generator: np.random.Generator,
    num_users_I: IntArray | None = None,
    without_lists: Collection[str] = (),
    run: Runner = here,
) -> list[Measured]:
    """Return the metrics of every predictor for every user, at each number of shots.

    A unit of work is a batch of users at a number of shots. Scores of the whole catalogue exist for
    one batch and one predictor at a time. All predictors rank the same sampled negatives.

    Args:
        shots: numbers of support rows that predictors see, None for all. The candidates of ranking
            stay those of the full support, so that metrics at different numbers of shots are
            comparable.
        num_users_I: the number of users who had met each item, or None if it is not known.
        without_lists: names of predictors that do not rank the catalogue.
        run: does the units. The metrics do not depend on it.
    """
    if selection.reads_catalogue:
        batch_size = users_at_once(spec.num_items, batch_size)
    parts: list[list[_OfBatch]] = [[] for _ in shots]
    places: collections.deque[int] = collections.deque()

    def asked() -> Iterator[tuple[int | None, _Candidates]]:
        for place, num_shots in enumerate(shots):
            for batch in tasks.batches(batch_size):
                places.append(place)
                yield num_shots, _Candidates.of(batch, spec.num_items, selection, generator)

    measurer = _Measurer(predictors, spec, selection, frozenset(without_lists))
    for found in run(functools.partial(_same, measurer), asked()):
        parts[places.popleft()].append(found)
    return [_joined(some, spec.num_items, num_users_I) for some in parts]


_OfBatch = dict[str, tuple[dict[str, Float64Array], IntArray | None]]
"""By predictor, its metrics on a batch, and the best items if a metric reads them."""


def _joined(parts: Sequence[_OfBatch], num_items: int, num_users_I: IntArray | None) -> Measured:
    per_user, lists = {}, {}
    for name in parts[0]:
        metrics, tops = zip(*(part[name] for part in parts), strict=True)
        per_user[name] = {m: np.concatenate([found[m] for found in metrics]) for m in metrics[0]}
        listed = [top_BK for top_BK in tops if top_BK is not None]
        if listed:
            lists[name] = TopLists(np.concatenate(listed), num_items, num_users_I)
    return Measured(per_user, lists)


@dataclasses.dataclass(frozen=True)
class _Measurer:
    """The object that a worker holds, which measures all predictors on a batch of users."""

    predictors: Mapping[str, Predictor]
    spec: TaskSetSpec
    selection: MetricSelection
    without_lists: frozenset[str]

    def __call__(self, unit: "tuple[int | None, _Candidates]") -> _OfBatch:
        """Return the metrics of a batch at a number of shots."""
        num_shots, asked = unit
        batch = asked.tasks
        shown = batch if num_shots is None else batch.with_shots(num_shots)
        found: _OfBatch = {}
        for name, predictor in self.predictors.items():
            metrics = _query_metrics(predictor, shown, self.spec, self.selection)
            top_BK = None
            if self.selection.reads_catalogue and name not in self.without_lists:
                ranked, top_BK = asked.ranked(predictor.score_items(shown), self.selection)
                metrics |= ranked
            found[name] = metrics, top_BK
        return found


def _same(measurer: _Measurer) -> _Measurer:
    return measurer


def _query_metrics(
    predictor: Predictor, batch: Tasks, spec: TaskSetSpec, selection: MetricSelection
) -> dict[str, Float64Array]:
    errors, orders = selection.of_kind(ErrorMetric), selection.of_kind(OrderMetric)
    if not (errors or orders):
        return {}
    said = query_scores(predictor, batch)
    found = {}
    if predictor.predicts_values:
        read = {"value": said.value_N, "mean": said.mean_N}
        for error in errors:
            found[error.label] = error.of(np.asarray(read[error.reads], np.float64), batch.query)
    order_N = np.asarray(said.order_N, np.float64)
    lowest = spec.value_range[0]
    for k in selection.ks:
        for metric in orders:
            found[metric.label.format(k=k)] = metric.of(order_N, batch.query, k, lowest)
    return found


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """The candidates of a batch's users, which are the same for every predictor."""

    tasks: Tasks
    """The tasks, whose support items are no candidates."""
    relevant: catalogue_ranking.Relevant
    negatives_BM: IntArray | None

    @classmethod
    def of(
        cls,
        batch: Tasks,
        num_items: int,
        selection: MetricSelection,
        generator: np.random.Generator,
    ) -> "_Candidates":
        sampled = selection.reads_catalogue and selection.num_negatives
        return cls(
            batch,
            catalogue_ranking.Relevant.of(batch, selection.relevant_from, num_items),
            catalogue_ranking.sample_negatives(batch, num_items, selection.num_negatives, generator)
            if sampled
            else None,
        )

    def ranked(
        self, scores_BI: Scores, selection: MetricSelection
    ) -> tuple[dict[str, Float64Array], IntArray | None]:
        """Return the ranking metrics, and (B, K) the best items if a metric reads them, padded with
        -1; all are -1 for a user with a score that is not finite."""
        candidates_BI, complete_B = catalogue_ranking.candidate_scores(scores_BI, self.tasks)
        ks, metrics = selection.ks, selection.of_kind(CatalogueMetric)
        found = {}
        ranks = catalogue_ranking.ranks_in_catalogue(candidates_BI, self.relevant, max(ks))
        for name, value_B in ranking_metrics(ranks, self.relevant, ks, metrics).items():
            found[f"full_{name}"] = value_B
        if self.negatives_BM is not None:
            ranks = catalogue_ranking.ranks_in_sample(
                candidates_BI, self.relevant, self.negatives_BM
            )
            for name, value_B in ranking_metrics(ranks, self.relevant, ks, metrics).items():
                found[f"sampled_{name}"] = value_B
        found = {m: np.where(complete_B, value_B, np.nan) for m, value_B in found.items()}
        if not selection.of_kind(ExposureMetric):
            return found, None
        top_BK = catalogue_ranking.top_items(candidates_BI, max(ks))
        is_listed_BK = np.isfinite(np.take_along_axis(candidates_BI, top_BK, axis=1))
        return found, np.where(is_listed_BK & complete_B[:, None], top_BK, -1).astype(np.int32)
