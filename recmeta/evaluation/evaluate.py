"""The evaluation of predictors on the same held-out users: metrics with intervals, by state and by
shots."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.evaluation.comparison.jackknife import jackknife_interval
from recmeta.evaluation.measuring.curve import adaptation_curve
from recmeta.evaluation.measuring.measure import (
    Measured,
    MetricSelection,
    Runner,
    here,
    measure,
)
from recmeta.evaluation.measuring.values import RELEVANT_SHARE
from recmeta.evaluation.metric import METRICS, ExposureMetric, Metric, TopLists, metric
from recmeta.evaluation.predictor import Predictor
from recmeta.evaluation.result import AdaptationCurve, Evaluation
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.task_set import Objective, Tasks, TaskSetSpec

STANDARD = (
    "mae",
    "rmse",
    "ndcg",
    "ndcg-exponential",
    "precision",
    "recall",
    "hit",
    "mrr",
    "catalogue-ndcg",
    "coverage",
    "gini",
    "popularity",
    "list-difference",
)
"""The metrics that are always measured, in the order of reports."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to measure, and how precisely."""

    shots: tuple[int, ...] = (0, 1, 2, 3, 5, 10, 20)
    """The numbers of support rows on the adaptation curve."""
    ks: tuple[int, ...] = (5, 10)
    """The cut-offs of the ranking metrics."""
    metrics: tuple[str, ...] = ()
    """Metrics that reports show besides the standard ones: names in
    `recmeta.evaluation.metric.METRICS`, of entry points `recmeta.metrics`, or paths
    `package.module:Object`."""
    relevant_from: float | None = None
    """The smallest value that makes an item relevant. If not set, it is the value 60 % up the range
    (3.4 on 1 to 5), or the value that a quarter of the values reach if a tail has stretched the
    range."""
    num_negatives: int = 100
    """The number of sampled negatives per user for the `sampled_` metrics; 0 leaves these metrics
    out."""
    num_resamples: int = 2000
    """The number of bootstrap resamples of users."""
    confidence: float = 0.95
    """The level of the intervals, between 0 and 1."""
    most_users: int = 20_000
    """The most cold users on whom a model is evaluated, drawn evenly; the report says of how many.
    More users make the intervals narrower and take longer in proportion."""
    list_curve_users: int = 200
    """The most users, drawn evenly, on the adaptation curve of lists of a rating log. Each point of
    the curve costs a ranking of the catalogue."""
    batch_size: int = 256
    """The most users that are scored at once; if the catalogue is large, there are fewer."""
    seed: int = 0
    """The seed of sampled negatives and resamples."""

    def __post_init__(self) -> None:
        for name in ("shots", "ks"):
            if not getattr(self, name):
                raise UserError(f"{name} is empty; give at least one number.")
        if min(self.shots) < 0:
            raise UserError(f"shots has {min(self.shots)}; it must be 0 or more.")
        if min(self.ks) < 1:
            raise UserError(f"ks has {min(self.ks)}; it must be 1 or more.")
        if not 0 < self.confidence < 1:
            raise UserError(f"confidence is {self.confidence}; it must lie between 0 and 1.")
        for name in self.metrics:
            METRICS.module_of(name)  # an unknown name is refused before anything runs
        for name, least in (
            ("num_negatives", 0),
            ("num_resamples", 1),
            ("batch_size", 1),
            ("most_users", 1),
            ("list_curve_users", 1),
        ):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; it must be {least} or more.")


def evaluate(
    predictors: Mapping[str, Predictor],
    tasks: Tasks,
    spec: TaskSetSpec,
    config: EvaluationConfig | None = None,
    num_users_I: IntArray | None = None,
    *,
    in_list_curve: Collection[str] | None = None,
    without_lists: Collection[str] = (),
    run: Runner = here,
) -> Evaluation:
    """Return every metric of every predictor on these tasks.

    Metrics by name (formulas in `metrics/`), all per user, then averaged; after them those of
    `config.metrics`:
    - `mae`, `rmse`: error of the query rows; rating only, and only if the predictor predicts
      values;
    - `ndcg@k`, `ndcg@k_exp`: order of the user's own query rows, linear and exponential gain;
      rating only, since any order is ideal if every value is 1;
    - `full_precision@k`, `full_recall@k`, `full_hit@k`, `full_mrr@k`, `full_ndcg@k`: the relevant
      query items among the catalogue without the support; `full_coverage@k`, `full_gini@k`,
      `full_popularity@k`, `full_list-difference@k`: how much of the catalogue all users' top k show
      and how far they differ, see `metrics/exposure/`;
    - `sampled_…@k`: the same among the relevant items and `num_negatives` sampled others.

    Args:
        num_users_I: the number of users who had met each item, for `full_popularity@k`, or None to
            leave this metric out.
        in_list_curve: for ratings, the predictors on the curve of lists, each point of which costs
            a ranking of the catalogue, or None for all.
        without_lists: names of predictors that take too long to rank the catalogue, and so have no
            metrics of lists.
        run: does the units of work, each a batch of users. The metrics do not depend on it.

    Raises:
        UserError: if there are no predictors or no tasks.
    """
    config = config or EvaluationConfig()
    if not predictors:
        raise UserError("there are no predictors to evaluate; give at least one.")
    if len(tasks) == 0:
        raise UserError(
            "the split to evaluate on has no tasks, as the log has too few users: ingest more, "
            "or build the tasks with a larger tasks.split.test_share or a smaller "
            "tasks.split.min_interactions."
        )
    # Separate streams, so that the draws of one part do not depend on another.
    streams = np.random.default_rng(config.seed).spawn(5)
    negatives, resamples, curve_resamples, list_resamples, list_users = streams
    everything = _all_metrics(spec, config)
    measured = measure(
        predictors,
        tasks,
        spec,
        everything,
        config.batch_size,
        negatives,
        num_users_I=num_users_I,
        without_lists=without_lists,
        run=run,
    )
    k = max(config.ks)
    lists = metric("catalogue-ndcg")
    if spec.objective == "implicit":
        curve = _curve(lists, k, predictors, tasks, spec, config, everything, curve_resamples, run)
        list_curve = curve
    else:
        of_values = {n: p for n, p in predictors.items() if p.predicts_values}
        curve = _curve(
            metric("mae"), k, of_values, tasks, spec, config, everything, curve_resamples, run
        )
        followed = set(predictors if in_list_curve is None else in_list_curve)
        followed -= set(without_lists)
        list_curve = _curve(
            lists,
            k,
            {n: p for n, p in predictors.items() if n in followed},
            tasks,
            spec,
            config,
            everything,
            list_resamples,
            run,
            drawn_by=list_users,
        )
    intervals = _intervals(measured, np.ones(len(tasks), np.bool_), config, resamples)
    for name, shown in measured.lists.items():
        intervals[name] |= _exposed(everything.of_kind(ExposureMetric), shown, config)
    states = [str(s) for s in np.unique(tasks.state)]
    return Evaluation(
        objective=spec.objective,
        primary_metric=curve.metric,
        lower_is_better=curve.lower_is_better,
        list_metric=list_curve.metric,
        relevant_from=everything.relevant_from,
        confidence=config.confidence,
        user_id=tuple(tasks.user_id),
        state=tasks.state,
        per_user=measured.per_user,
        intervals=intervals,
        by_state={s: _intervals(measured, tasks.state == s, config, resamples) for s in states}
        if len(states) > 1
        else {},
        curve=curve,
        list_curve=list_curve,
        further={
            name: one.lower_is_better
            for one in _further(spec.objective, config, [])
            for name in one.names(config.ks)
        },
    )


def _all_metrics(spec: TaskSetSpec, config: EvaluationConfig) -> MetricSelection:
    """Return the selection of the objective's standard metrics and of those that are configured."""
    standard = [m for m in map(metric, STANDARD) if spec.objective in m.objectives]
    relevant_from = config.relevant_from
    if relevant_from is None:
        low, high = spec.value_range
        relevant_from = low + RELEVANT_SHARE * (high - low)
    return MetricSelection(
        metrics=(*standard, *_further(spec.objective, config, standard)),
        ks=config.ks,
        num_negatives=config.num_negatives,
        relevant_from=relevant_from,
    )


def _further(
    objective: Objective, config: EvaluationConfig, standard: Sequence[Metric]
) -> list[Metric]:
    """Return the configured metrics besides the standard ones.

    Raises:
        UserError: if a metric does not suit the feedback, or has the name of another.
    """
    found: list[Metric] = []
    known = {name for one in standard for name in one.names(config.ks)}
    for asked in config.metrics:
        one = metric(asked)
        if one in standard:
            continue
        if objective not in one.objectives:
            raise UserError(
                f"the metric {asked!r} is for feedback of the kind {' or '.join(one.objectives)}, "
                f"and this is {objective}: leave it out of evaluation.metrics."
            )
        if known & set(one.names(config.ks)):
            raise UserError(f"the metric {asked!r} has the same name as {one.label!r}.")
        known |= set(one.names(config.ks))
        found.append(one)
    return found


def _curve(
    of: Metric,
    k: int,
    predictors: Mapping[str, Predictor],
    tasks: Tasks,
    spec: TaskSetSpec,
    config: EvaluationConfig,
    everything: MetricSelection,
    generator: np.random.Generator,
    run: Runner,
    drawn_by: np.random.Generator | None = None,
) -> AdaptationCurve:
    """Return the adaptation curve of a metric, measuring only this metric.

    Args:
        drawn_by: draws `list_curve_users` of the users who could be on the curve, or None for all.
    """
    return adaptation_curve(
        predictors,
        tasks,
        spec,
        shots=config.shots,
        metric=of.names([k])[0],
        lower_is_better=of.lower_is_better,
        selection=dataclasses.replace(everything, metrics=(of,), ks=(k,), num_negatives=0),
        batch_size=config.batch_size,
        generator=generator,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        most_users=None if drawn_by is None else config.list_curve_users,
        drawn_by=drawn_by,
        run=run,
    )


def _exposed(
    metrics: Sequence[ExposureMetric], lists: TopLists, config: EvaluationConfig
) -> dict[str, Interval]:
    """Return the exposure metrics of lists at each cut-off."""
    found: dict[str, Interval] = {}
    for k in config.ks:
        cut = lists.first(k)
        for one in metrics:
            if one.of(cut) is None:
                continue
            interval = jackknife_interval(cut, one.of, config.confidence)
            found |= dict.fromkeys(one.names([k]), interval)
    return found


def _intervals(
    measured: Measured, keep_U: BoolArray, config: EvaluationConfig, generator: np.random.Generator
) -> dict[str, dict[str, Interval]]:
    """Return the intervals of the means over the kept users, all from the same resamples."""
    columns = [(n, m) for n, found in measured.per_user.items() for m in found]
    values_UM = np.stack([measured.per_user[n][m][keep_U] for n, m in columns], axis=1)
    found = mean_intervals(values_UM, generator, config.num_resamples, config.confidence)
    intervals: dict[str, dict[str, Interval]] = {name: {} for name in measured.per_user}
    for (name, measure_of), interval in zip(columns, found, strict=True):
        intervals[name][measure_of] = interval
    return intervals
