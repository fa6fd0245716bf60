"""Whether the uncertainty of predictions is what it says, and where it is learned from.

Legend: N query rows, U users.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from recmeta.metalearn import uncertainty
from recmeta.metalearn.model import Model
from recmeta.metalearn.predicted_rows import predict_query
from recmeta.metalearn.uncertainty import LEVELS, Array, Uncertainty
from recmeta.tasks.task_set import Tasks

SHOTS = (0, 1, 3, 10)
"""Support sizes that the uncertainty is learned from, beside the whole support."""
NUM_BINS = 5
USERS_AT_ONCE = 256
NORMAL_QUANTILES = (0.6744897501960817, 1.2815515655446004, 1.6448536269514722, 1.959963984540054)
"""Half widths of a normal distribution's intervals of `LEVELS`, in standard deviations."""


@dataclasses.dataclass(frozen=True)
class Residuals:
    """Predictions of query rows beside what was there."""

    design_NF: Array
    """What the uncertainty is a function of."""
    residual_N: Array
    """Value less prediction, in units of the value."""
    spread_N: Array | None
    """The learner's own standard deviation, in units of the value."""
    user_N: npt.NDArray[np.int64]


def residuals(model: Model, tasks: Tasks) -> Residuals:
    """Return the residuals of a model of ratings on the tasks' queries."""
    parts = []
    for first in range(0, len(tasks), USERS_AT_ONCE):
        some = tasks.take(np.arange(first, min(first + USERS_AT_ONCE, len(tasks))))
        predicted = predict_query(model, some)
        residual_N = some.query.value - predicted.value_N
        parts.append(
            Residuals(
                predicted.design_NF,
                residual_N.astype(np.float64),
                predicted.spread_N,
                some.query.task + first,
            )
        )
    spreads = [part.spread_N for part in parts if part.spread_N is not None]
    return Residuals(
        np.concatenate([part.design_NF for part in parts]),
        np.concatenate([part.residual_N for part in parts]),
        np.concatenate(spreads) if spreads else None,
        np.concatenate([part.user_N for part in parts]),
    )


def learn_uncertainty(model: Model, development: Tasks) -> Uncertainty | None:
    """Return the uncertainty that a model's residuals on the development users speak for.

    Each user counts as much as another, with the first 0, 1, 3 and 10 rows of the support and with
    all of them. None for implicit feedback, whose logits have no truth to be off from, and for too
    few residuals.
    """
    if model.objective != "rating" or len(development) == 0:
        return None
    longest = development.support.lengths
    some = [development.take(np.flatnonzero(longest > k)).with_shots(k) for k in SHOTS]
    found = [residuals(model, tasks) for tasks in (*some, development) if len(tasks)]
    return uncertainty.fit(
        np.concatenate([r.design_NF for r in found]),
        np.concatenate([r.residual_N for r in found]),
        np.concatenate([_equal_weights(r.user_N) for r in found]),
        len(development),
    )


def calibration(model: Model, tasks: Tasks) -> dict[str, Any] | None:
    """Return how a model's uncertainty fared on users, JSON-ready; None where it has none.

    `coverage`: for each level the share of values within the interval, and, where the learner has
    a spread of its own, within the interval of a normal distribution with it as it is. `bins`: the
    rows in equal parts by their standard deviation; in each its root mean square beside the error.
    Users count alike throughout.
    """
    known = model.uncertainty
    if known is None or len(tasks) == 0:
        return None
    found = residuals(model, tasks)
    weight_N = _equal_weights(found.user_N)
    weight_N = weight_N / weight_N.sum()
    size_N = np.abs(found.residual_N)
    sigma_N = known.deviation(found.design_NF)
    coverage = []
    for level, factor, normal in zip(LEVELS, known.factors, NORMAL_QUANTILES, strict=True):
        row = {"level": level, "observed": float(weight_N @ (size_N <= factor * sigma_N))}
        if found.spread_N is not None:
            within_N = size_N <= normal * found.spread_N
            row["learners_own"] = float(weight_N @ within_N)
        coverage.append(row)
    return {
        "num_users": len(tasks),
        "num_rows": len(size_N),
        "fitted_to_users": known.num_users,
        "coverage": coverage,
        "bins": _bins(sigma_N, size_N, weight_N),
    }


def _bins(sigma_N: Array, size_N: Array, weight_N: Array) -> list[dict[str, float]]:
    order = np.argsort(sigma_N, kind="stable")
    share_N = np.cumsum(weight_N[order]) - weight_N[order] / 2
    bin_N = np.minimum((share_N * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    bins = []
    for number in np.unique(bin_N):
        rows = order[bin_N == number]
        weight = weight_N[rows] / weight_N[rows].sum()
        bins.append(
            {
                "from": float(sigma_N[rows].min()),
                "to": float(sigma_N[rows].max()),
                "expected_rmse": float(np.sqrt(weight @ sigma_N[rows] ** 2)),
                "rmse": float(np.sqrt(weight @ size_N[rows] ** 2)),
                "num_rows": len(rows),
            }
        )
    return bins


def _equal_weights(user_N: npt.NDArray[np.int64]) -> Array:
    """Return one over the rows of each row's user."""
    return 1.0 / np.bincount(user_N)[user_N]
