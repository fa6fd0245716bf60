"""Every per-user metric of every predictor, a batch of users at a time.

Legend: B users of a batch, U all users, I items.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from recmeta.evaluation.measuring import catalogue_ranking
from recmeta.evaluation.measuring.catalogue_metrics import ranking_metrics
from recmeta.evaluation.metric import (
    CatalogueMetric,
    ErrorMetric,
    ExposureMetric,
    Metric,
    OrderMetric,
)
from recmeta.evaluation.predictor import Predictor, Scores, scores_and_order
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks, TaskSetSpec

M = TypeVar("M", bound=Metric)

MAX_SCORES = 2**24  # scores held at once by one predictor: 128 MiB in float64


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricSelection:
    """Which metrics to take."""

    metrics: tuple[Metric, ...]
    ks: tuple[int, ...]
    """Cut-offs of those that have one."""
    num_negatives: int
    """Negatives sampled per user for sampled ranking; 0 for none."""
    relevant_from: float
    """Values from here up make an item relevant."""

    def of_kind(self, kind: type[M]) -> tuple[M, ...]:
        """Return the metrics that read one thing."""
        return tuple(metric for metric in self.metrics if isinstance(metric, kind))

    @property
    def reads_catalogue(self) -> bool:
        """Whether any needs scores of the whole catalogue."""
        return bool(self.of_kind(CatalogueMetric) or self.of_kind(ExposureMetric))


@dataclasses.dataclass(frozen=True)
class Measured:
    """Per-user metrics, and what lists show of the catalogue, which belongs to no user."""

    per_user: dict[str, dict[str, Float64Array]]
    """By predictor and metric, (U,)."""
    exposure: dict[str, dict[str, float]]
    """By predictor and metric, such as `full_coverage@k`, of all users' top k."""


def measure(
    predictors: Mapping[str, Predictor],
    tasks: Tasks,
    spec: TaskSetSpec,
    selection: MetricSelection,
    batch_size: int,
    generator: np.random.Generator,
    num_shots: int | None = None,
    num_users_I: IntArray | None = None,
) -> Measured:
    """Return the metrics of every predictor for every user.

    Scores of the whole catalogue exist for one batch and one predictor at a time. All predictors
    rank the same sampled negatives.

    Args:
        num_shots: show the predictors only this many support rows. The candidates of ranking stay
            those of the full support, so that metrics at different numbers of shots compare.
        num_users_I: users who had met each item; None: not known.
    """
    if selection.reads_catalogue:
        batch_size = max(1, min(batch_size, MAX_SCORES // spec.num_items))
    parts: dict[str, list[dict[str, Float64Array]]] = {name: [] for name in predictors}
    listed: dict[str, dict[int, IntArray]] = {
        name: {k: np.zeros(spec.num_items, np.int64) for k in selection.ks} for name in predictors
    }
    for batch in tasks.batches(batch_size):
        candidates = _Candidates.of(batch, spec.num_items, selection, generator)
        shown = batch if num_shots is None else batch.with_shots(num_shots)
        for name, predictor in predictors.items():
            found = _query_metrics(predictor, shown, spec, selection)
            if selection.reads_catalogue:
                found |= candidates.metrics(predictor.score_items(shown), selection, listed[name])
            parts[name].append(found)
    return Measured(
        {
            name: {m: np.concatenate([part[m] for part in found]) for m in found[0]}
            for name, found in parts.items()
        },
        {
            name: _exposure(selection.of_kind(ExposureMetric), by_k, num_users_I)
            for name, by_k in listed.items()
        },
    )


def _exposure(
    metrics: Sequence[ExposureMetric],
    listed: Mapping[int, IntArray],
    num_users_I: IntArray | None,
) -> dict[str, float]:
    found = {
        name: metric.of(listed_I, num_users_I)
        for k, listed_I in listed.items()
        for metric in metrics
        for name in metric.names([k])
    }
    return {name: value for name, value in found.items() if value is not None}


def _query_metrics(
    predictor: Predictor, batch: Tasks, spec: TaskSetSpec, selection: MetricSelection
) -> dict[str, Float64Array]:
    errors, orders = selection.of_kind(ErrorMetric), selection.of_kind(OrderMetric)
    if not (errors or orders):
        return {}
    predicted_N, order_N = (
        np.asarray(side, np.float64) for side in scores_and_order(predictor, batch)
    )
    found = {}
    if predictor.predicts_values:
        found = {metric.label: metric.of(predicted_N, batch.query) for metric in errors}
    lowest = spec.value_range[0]
    for k in selection.ks:
        for metric in orders:
            found[metric.label.format(k=k)] = metric.of(order_N, batch.query, k, lowest)
    return found


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """What a batch's users choose among: the same for every predictor."""

    tasks: Tasks
    """Whose support items are no candidates."""
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

    def metrics(
        self, scores_BI: Scores, selection: MetricSelection, listed: Mapping[int, IntArray]
    ) -> dict[str, Float64Array]:
        """Return the ranking metrics, and count in `listed` the items of each user's top k."""
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
        if selection.of_kind(ExposureMetric):
            _count(listed, candidates_BI[complete_B], ks)
        return {m: np.where(complete_B, value_B, np.nan) for m, value_B in found.items()}


def _count(listed: Mapping[int, IntArray], scores_BI: Float64Array, ks: Sequence[int]) -> None:
    top_BK = catalogue_ranking.top_items(scores_BI, max(ks))
    is_candidate_BK = np.isfinite(np.take_along_axis(scores_BI, top_BK, axis=1))
    for k in ks:
        np.add.at(listed[k], top_BK[:, :k][is_candidate_BK[:, :k]], 1)
