"""The adaptation curve: the value of each further support row, on the same users throughout."""

from collections.abc import Mapping, Sequence

import numpy as np

from recmeta.evaluation.comparison.bootstrap import mean_intervals
from recmeta.evaluation.measuring.measure import MetricSelection, Runner, here, measure_at
from recmeta.evaluation.predictor import Predictor
from recmeta.evaluation.result import AdaptationCurve
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.task_set import Tasks, TaskSetSpec

MIN_COHORT = 30


def choose_cohort(lengths_U: IntArray, shots: Sequence[int]) -> tuple[IntArray, tuple[int, ...]]:
    """Return the positions of users with enough support, and the shots that they allow.

    A curve over different users at each point would show who has much support, not what support
    does. So the cohort is fixed: the users with at least the largest number of shots. If there are
    fewer than 30 of them, the largest number is dropped, until there are enough or one number is
    left. No shots are left if no user has even the smallest number.
    """
    kept = sorted(set(shots))
    enough = min(MIN_COHORT, len(lengths_U))
    while len(kept) > 1 and (lengths_U >= kept[-1]).sum() < enough:
        kept.pop()
    cohort = np.flatnonzero(lengths_U >= kept[-1])
    return cohort, tuple(kept) if len(cohort) else ()


def adaptation_curve(
    predictors: Mapping[str, Predictor],
    tasks: Tasks,
    spec: TaskSetSpec,
    *,
    shots: Sequence[int],
    metric: str,
    lower_is_better: bool,
    selection: MetricSelection,
    batch_size: int,
    generator: np.random.Generator,
    num_resamples: int,
    confidence: float,
    most_users: int | None = None,
    drawn_by: np.random.Generator | None = None,
    run: Runner = here,
) -> AdaptationCurve:
    """Return `metric` at each number of shots, by predictor; each must have the metric.

    Only the first rows of the support are shown; users, queries and candidates stay the same.

    Args:
        most_users: the number of users who are drawn of those who could be on the curve, or None
            for all.
        drawn_by: the generator that draws them.
        run: see `measure_at`.
    """
    # Users without a query row have no metric at any number of shots.
    lengths_U = np.where(tasks.query.lengths > 0, tasks.support.lengths, -1)
    cohort, kept = choose_cohort(lengths_U, shots)
    note = None
    if max(shots) not in kept:
        num_asked = int((lengths_U >= max(shots)).sum())
        outcome = f"the curve stops at {kept[-1]}, which {len(cohort)} have" if kept else "no curve"
        note = f"Only {num_asked} of {len(tasks)} users have {max(shots)} support rows: {outcome}."
    if most_users is not None and len(cohort) > most_users:
        assert drawn_by is not None, "drawing users needs a generator"
        drawn = f"{most_users} users are drawn of {len(cohort)}."
        note = drawn if note is None else f"{note} {drawn[0].upper()}{drawn[1:]}"
        cohort = np.sort(drawn_by.choice(cohort, most_users, replace=False))
    chosen = tasks.take(cohort)
    names = list(predictors)
    found = measure_at(kept, predictors, chosen, spec, selection, batch_size, generator, run=run)
    columns = [measured.per_user[name][metric] for measured in found for name in names]
    values_UM = np.stack(columns, axis=1) if columns else np.empty((len(cohort), 0))
    intervals = mean_intervals(values_UM, generator, num_resamples, confidence)
    return AdaptationCurve(
        metric=metric,
        lower_is_better=lower_is_better,
        shots=kept,
        num_users=len(cohort),
        note=note,
        points={name: tuple(intervals[i :: len(names)]) for i, name in enumerate(names)},
    )
