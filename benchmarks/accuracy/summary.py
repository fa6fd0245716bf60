"""The summary of per-user results of all seeds: means, intervals and paired differences.

A user's metric is averaged over the seeds in which the user is cold; then users are drawn with
replacement. So an interval describes the variation over users, and the noise of the seeds is
averaged.

Legend: U users, M columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.accuracy import analysis
from benchmarks.accuracy.direction import is_error
from benchmarks.accuracy.protocol import Protocol
from recmeta import schema
from recmeta.evaluation.comparison.bootstrap import Interval, mean_intervals
from recmeta.tasks.arrays import Float64Array

NUM_RESAMPLES = 2000
MOST_PAIRS = 1000
"""The most paired differences of a training and state; if there would be more, only those of the
metrics in the report are computed."""
Columns = dict[tuple[str, str], Float64Array]
"""(U,) by (learner, metric); NaN for users that have no value."""


def summarise(
    per_user: Mapping[tuple[str, str, int], pa.Table],
    protocol: Protocol,
    baselines: Sequence[str],
) -> dict[str, Any]:
    """Return `rows`, `paired_differences` and, for ratings, `error_analysis`, JSON-ready.

    Args:
        per_user: by (learner, training, seed), as `cells.run` gives them.
        baselines: the learners that the others are compared with.
    """
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    for training in protocol.trainings:
        tables = {(n, s): t for (n, given, s), t in per_user.items() if given == training}
        states = dict.fromkeys(
            s for t in tables.values() for s in pc.unique(t["state"]).to_pylist()
        )
        seeds = sorted({seed for _, seed in tables})
        for state in states:
            columns = averaged(tables, state, protocol.metrics)
            common = {"training": training, "state": state}
            for (learner, metric), found in _intervals(columns).items():
                rows.append(
                    {
                        "learner": learner,
                        **common,
                        "metric": metric,
                        **plain(found),
                        "seeds": seeds,
                    }
                )
            differences += [
                {**common, **found} for found in _differences(columns, baselines, protocol)
            ]
            if protocol.objective == "rating":
                segments += [{**common, **found} for found in _segments(tables, state)]
    return {"rows": rows, "paired_differences": differences, "error_analysis": segments}


def averaged(
    tables: Mapping[tuple[str, int], pa.Table], state: str, metrics: Sequence[str]
) -> Columns:
    """Return each user's mean over the seeds; users in the same order for all learners."""
    chosen = {key: t.filter(pc.equal(t[schema.STATE], state)) for key, t in tables.items()}
    users = pc.unique(pa.chunked_array([c for t in chosen.values() for c in t["user_id"].chunks]))
    users = users.sort()
    columns: Columns = {}
    for learner in dict.fromkeys(name for name, _ in chosen):
        of_learner = [t for (name, _), t in chosen.items() if name == learner and len(t)]
        for metric in metrics:
            # A segment of items may be without a row in some seeds' queries.
            with_metric = [table for table in of_learner if metric in table.column_names]
            if not with_metric:
                continue
            total, count = np.zeros((2, len(users)))
            for table in with_metric:
                place = pc.index_in(table["user_id"].combine_chunks(), users).to_numpy()
                value = table[metric].to_numpy()
                known = ~np.isnan(value)
                total[place[known]] += value[known]
                count[place[known]] += 1
            columns[learner, metric] = np.divide(
                total, count, out=np.full(len(users), np.nan), where=count > 0
            )
    return columns


def _intervals(columns: Columns) -> dict[tuple[str, str], Interval]:
    values_UM = np.stack(list(columns.values()), axis=1)
    found = mean_intervals(values_UM, np.random.default_rng(0), NUM_RESAMPLES)
    return dict(zip(columns, found, strict=True))


def _segments(tables: Mapping[tuple[str, int], pa.Table], state: str) -> list[dict[str, Any]]:
    """Return the MAE by support rows of the user, and by training ratings of the item."""
    names = [
        f"{analysis.POPULARITY}{name}" for name in analysis.names_of(analysis.POPULARITY_EDGES)
    ]
    columns = averaged(tables, state, ("mae", analysis.SUPPORT_ROWS, *names))
    errors = {learner: value for (learner, name), value in columns.items() if name == "mae"}
    support = [v for (_, name), v in columns.items() if name == analysis.SUPPORT_ROWS]
    if not errors:
        return []
    found = [
        (learner, "support rows", segment, value)
        for learner, segment, value in analysis.by_support(errors, support[0])
    ]
    found += [
        (learner, "training ratings of the item", name.removeprefix(analysis.POPULARITY), value)
        for (learner, name), value in columns.items()
        if name in names
    ]
    intervals = mean_intervals(
        np.stack([value for *_, value in found], axis=1), np.random.default_rng(0), NUM_RESAMPLES
    )
    return [
        {"learner": learner, "by": by, "segment": segment, "metric": "mae", **plain(interval)}
        for (learner, by, segment, _), interval in zip(found, intervals, strict=True)
        if interval.num_users > 0
    ]


def _differences(
    columns: Columns, baselines: Sequence[str], protocol: Protocol
) -> list[dict[str, Any]]:
    """Return learner minus baseline for each metric, over the users that both have; in the record
    minus every other learner, too."""
    learners = [name for name in dict.fromkeys(n for n, _ in columns) if name not in baselines]
    rivals = [*baselines, *learners] if protocol.is_of_the_record else baselines
    pairs = [
        (learner, rival, metric)
        for learner, metric in columns
        if learner in learners
        for rival in rivals
        if rival != learner and (rival, metric) in columns
    ]
    if len(pairs) > MOST_PAIRS:  # as many as claims are about
        pairs = [pair for pair in pairs if pair[2] in (protocol.primary_metric, "mae_rounded")]
    if not pairs:
        return []
    values_UM = np.stack(
        [columns[learner, metric] - columns[base, metric] for learner, base, metric in pairs],
        axis=1,
    )
    found = mean_intervals(values_UM, np.random.default_rng(0), NUM_RESAMPLES)
    return [
        {
            "learner": learner,
            "baseline": baseline,
            "metric": metric,
            **plain(interval),
            "verdict": verdict(interval, metric),
        }
        for (learner, baseline, metric), interval in zip(pairs, found, strict=True)
    ]


def verdict(interval: Interval, metric: str) -> str:
    """Return the learner's verdict by the interval: better, worse or tie."""
    if not (interval.ci_low > 0 or interval.ci_high < 0):
        return "tie"
    return "better" if (interval.mean < 0) == is_error(metric) else "worse"


def plain(interval: Interval) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return round(value, 6) if np.isfinite(value) else None

    return {
        "mean": number(interval.mean),
        "ci_low": number(interval.ci_low),
        "ci_high": number(interval.ci_high),
        "num_users": interval.num_users,
    }
