"""The result of an evaluation: metrics by predictor, with intervals, by state and by shots."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmeta import schema
from recmeta.evaluation.comparison.bootstrap import Interval
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Objective

PREDICTOR = "predictor"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptationCurve:
    """How a metric changes with the number of support rows, on the same users throughout."""

    metric: str
    lower_is_better: bool
    shots: tuple[int, ...]
    """S numbers of support rows, ascending."""
    num_users: int
    """The number of users in the cohort: those with a query and at least the largest of `shots`
    support rows, or a sample of them, as `note` says."""
    note: str | None
    """Which shots or users were left out, and why, or None if none were."""
    points: dict[str, tuple[Interval, ...]]
    """The S means over the cohort, by predictor."""

    def to_dict(self) -> dict[str, Any]:
        """Return the curve, JSON-ready. Undefined numbers are None."""
        return {
            "metric": self.metric,
            "lower_is_better": self.lower_is_better,
            "shots": list(self.shots),
            "num_users": self.num_users,
            "note": self.note,
            "points": {
                name: [_plain_interval(i) for i in points] for name, points in self.points.items()
            },
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All measurements on one set of held-out users."""

    objective: Objective
    primary_metric: str
    """The metric that reports show first: `mae` for ratings, `full_ndcg@k` for implicit
    feedback."""
    lower_is_better: bool
    """Whether a lower primary metric is better."""
    list_metric: str
    """The metric by which lists are judged: `full_ndcg@k` at the largest cut-off, higher is better.
    The gate decides by it and, for ratings, by the primary metric."""
    relevant_from: float
    """The smallest value of a relevant item."""
    confidence: float
    """The level of all intervals."""
    user_id: tuple[str, ...]
    """The ids of the U users, in the order of all per-user arrays."""
    state: npt.NDArray[np.str_]
    """(U,)"""
    per_user: dict[str, dict[str, Float64Array]]
    """The metrics (U,) by predictor and name; NaN where undefined."""
    intervals: dict[str, dict[str, Interval]]
    """The intervals by predictor and metric, over all users; those of exposure metrics by the
    jackknife over users."""
    by_state: dict[str, dict[str, dict[str, Interval]]]
    """The intervals by state; empty if all users have the same state."""
    curve: AdaptationCurve
    """The adaptation curve of the primary metric."""
    list_curve: AdaptationCurve
    """The adaptation curve of `list_metric`; for implicit feedback it is the same curve."""
    further: dict[str, bool]
    """The names of the configured metrics besides the standard ones, each with whether lower is
    better."""

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The means by predictor and metric, such as `metrics["item-mean"]["mae"]`."""
        return {
            name: {metric: interval.mean for metric, interval in found.items()}
            for name, found in self.intervals.items()
        }

    def per_user_of(self, metric: str) -> dict[str, Float64Array]:
        """Return a metric (U,) by predictor that has it."""
        return {name: found[metric] for name, found in self.per_user.items() if metric in found}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the per-user arrays, JSON-ready; undefined numbers are None."""
        states, counts = np.unique(self.state, return_counts=True)
        return {
            "objective": self.objective,
            "primary_metric": self.primary_metric,
            "lower_is_better": self.lower_is_better,
            "list_metric": self.list_metric,
            "relevant_from": self.relevant_from,
            "confidence": self.confidence,
            "further_metrics": self.further,
            "num_users": len(self.user_id),
            "num_users_by_state": {str(s): int(n) for s, n in zip(states, counts, strict=True)},
            "metrics": {
                name: {metric: _number(value) for metric, value in found.items()}
                for name, found in self.metrics.items()
            },
            "intervals": {name: _plain(found) for name, found in self.intervals.items()},
            "by_state": {
                state: {name: _plain(found) for name, found in by_name.items()}
                for state, by_name in self.by_state.items()
            },
            "adaptation_curve": self.curve.to_dict(),
            "list_curve": self.list_curve.to_dict(),
        }

    def per_user_table(self) -> pa.Table:
        """Return a table with a row per predictor and user: `user_id`, `state`, `predictor` and all
        metrics.

        A metric that is undefined for the user, or that the predictor does not have, is null.
        """
        names = list(self.per_user)
        metrics = list(dict.fromkeys(m for found in self.per_user.values() for m in found))
        num_users = len(self.user_id)
        missing = np.full(num_users, np.nan)
        columns: dict[str, pa.Array] = {
            schema.USER_ID: pa.array(list(self.user_id) * len(names), pa.string()),
            schema.STATE: pa.array(np.tile(self.state, len(names)).tolist(), pa.string()),
            PREDICTOR: pa.array(np.repeat(names, num_users).tolist(), pa.string()),
        }
        for metric in metrics:
            stacked = np.concatenate([self.per_user[name].get(metric, missing) for name in names])
            columns[metric] = pa.array(stacked, pa.float64(), from_pandas=True)
        return pa.table(columns)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain_interval(interval: Interval) -> dict[str, Any]:
    return {
        "mean": _number(interval.mean),
        "ci_low": _number(interval.ci_low),
        "ci_high": _number(interval.ci_high),
        "num_users": interval.num_users,
    }


def _plain(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {metric: _plain_interval(interval) for metric, interval in found.items()}
