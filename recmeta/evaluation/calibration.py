"""The calibration of uncertainties: how they are learned, and how well intervals hold.

Legend: N query rows, U users, L levels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from recmeta.evaluation.comparison.bootstrap import MIN_USERS, mean_intervals
from recmeta.metalearn.heads import uncertainty
from recmeta.metalearn.heads.levels import LevelShares
from recmeta.metalearn.heads.uncertainty import LEVELS, Uncertainty
from recmeta.metalearn.model import Model
from recmeta.metalearn.predicted_rows import predict_query
from recmeta.metalearn.scorer import Scorer
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks

SHOTS = (0, 1, 3, 10)
"""The support sizes that the uncertainty is learned from, besides the whole support."""
MOST_USERS = 10_000
"""The most development users that the uncertainty is learned from: the rows of one take some 40
kilobytes. If there are more, users are taken at equal distances."""
NUM_BINS = 5
USERS_AT_ONCE = 256
NORMAL_QUANTILES = (0.6744897501960817, 1.2815515655446004, 1.6448536269514722, 1.959963984540054)
"""The half widths of a normal distribution's intervals of `LEVELS`, in standard deviations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Residuals:
    """A model's predictions of query rows, with the values that were observed."""

    value_N: Float64Array
    raw_N: Float64Array
    """The expected values before the uncertainty calibrates them, in units of the value."""
    expected_N: Float64Array
    """The calibrated expected values."""
    design_NF: Float64Array
    """The inputs of the uncertainty."""
    spread_N: Float64Array | None
    """The standard deviation of the level head or, without one, of the learner, in units of the
    value."""
    shares: LevelShares | None
    """The distributions over the levels, if there is a level head."""
    user_N: IntArray

    @property
    def residual_N(self) -> Float64Array:
        """The values minus the expected values, in units of the value."""
        return self.value_N - self.expected_N

    @property
    def weight_N(self) -> Float64Array:
        """One over the rows of each row's user."""
        return 1.0 / np.bincount(self.user_N)[self.user_N]


def residuals(model: Model, tasks: Tasks) -> Residuals:
    """Return the predictions of a model of ratings for the tasks' queries, with the observed
    values."""
    scorer = Scorer.of(model)
    parts, values, users = [], [], []
    for first in range(0, len(tasks), USERS_AT_ONCE):
        some = tasks.take(np.arange(first, min(first + USERS_AT_ONCE, len(tasks))))
        parts.append(predict_query(scorer, some))
        values.append(some.query.value)
        users.append(some.query.task + first)
    spreads = [part.spread_N for part in parts if part.spread_N is not None]
    return Residuals(
        value_N=np.concatenate(values).astype(np.float64),
        raw_N=np.concatenate([part.raw_N for part in parts]).astype(np.float64),
        expected_N=np.concatenate([part.expected_N for part in parts]).astype(np.float64),
        design_NF=np.concatenate([part.design_NF for part in parts]),
        spread_N=np.concatenate(spreads) if spreads else None,
        shares=_joined([part.shares for part in parts if part.shares is not None]),
        user_N=np.concatenate(users),
    )


def _joined(parts: Sequence[LevelShares]) -> LevelShares | None:
    if not parts:
        return None
    return LevelShares(parts[0].value_L, np.concatenate([part.share_L for part in parts]))


def learn_uncertainty(model: Model, development: Tasks) -> Uncertainty | None:
    """Return the uncertainty learned from a model's residuals on the development users.

    Every user counts the same. Half of the weight is on predictions from the whole support, and
    half on those from its first 0, 1, 3 or 10 rows. It is None for implicit feedback, whose logits
    have no observed values, and for too few residuals.
    """
    if model.objective != "rating" or len(development) == 0:
        return None
    development = _at_most(development, MOST_USERS)
    longest_U = development.support.lengths
    cohorts = [np.flatnonzero(longest_U > k) for k in SHOTS]
    some = [development.take(c).with_shots(k) for c, k in zip(cohorts, SHOTS, strict=True)]
    everybody = np.arange(len(development))
    pairs = [*zip(some, cohorts, strict=True), (development, everybody)]
    found = [(residuals(model, tasks), cohort) for tasks, cohort in pairs if len(tasks)]
    value_N = np.concatenate([r.value_N for r, _ in found])
    raw_N = np.concatenate([r.raw_N for r, _ in found])
    weights = [r.weight_N for r, _ in found]
    weight_N = np.concatenate([*weights[:-1], weights[-1] * max(1, len(weights) - 1)])
    # The mean of a distribution over the levels is calibrated already.
    has_levels = model.levels is not None
    intercept, slope = line = (
        (0.0, 1.0)
        if has_levels
        else uncertainty.fit_line(raw_N, value_N, weight_N, len(development))
    )
    expected_N = np.clip(intercept + slope * raw_N, *model.value_range)
    design_NF = np.concatenate([r.design_NF for r, _ in found])
    return uncertainty.fit(
        uncertainty.with_expected(design_NF, expected_N, model.value_range),
        value_N - expected_N,
        weight_N,
        np.concatenate([cohort[r.user_N] for r, cohort in found]),
        line,
    )


def _at_most(tasks: Tasks, most: int) -> Tasks:
    """Return the tasks of at most so many users, at equal distances."""
    if len(tasks) <= most:
        return tasks
    return tasks.take(np.linspace(0, len(tasks) - 1, most).astype(np.int64))


def calibration(
    model: Model, tasks: Tasks, development: Tasks, generator: np.random.Generator
) -> dict[str, Any] | None:
    """Return how well a model's uncertainty held on users, JSON-ready, or None if it has none.

    `coverage`: for each level the share of values within the interval (`observed`) with its 95 %
    bootstrap interval over users (`ci_low`, `ci_high`; absent with one user), the same share for
    the users that it was learned from (`development`), and, if the head or the learner has a
    spread, the share within the interval of a normal distribution with that spread. `bins`: the
    rows in equal parts by their standard deviation; each with the root mean squares of the standard
    deviation and of the error. `levels`, for a model with a level head: for each level of the scale
    its mean predicted probability (`predicted`) and the share of the values that had it
    (`observed`, with its interval). Users count the same throughout.

    Args:
        development: the users that the uncertainty was learned from, which may be none.
        generator: draws the resamples.
    """
    known = model.uncertainty
    if known is None or len(tasks) == 0:
        return None
    found = residuals(model, tasks)
    observed = mean_intervals(_held(known, found), generator)
    development_L: Float64Array | None = None
    if len(development):
        development_L = _held(known, residuals(model, _at_most(development, MOST_USERS))).mean(0)
    weight_N = found.weight_N / found.weight_N.sum()
    coverage = []
    for place, level in enumerate(LEVELS):
        row = {"level": level, "observed": observed[place].mean}
        if observed[place].num_users >= MIN_USERS:
            row |= {"ci_low": observed[place].ci_low, "ci_high": observed[place].ci_high}
        if development_L is not None:
            row["development"] = float(development_L[place])
        if found.spread_N is not None:
            half_N = NORMAL_QUANTILES[place] * found.spread_N
            row["learners_own"] = float(weight_N @ (np.abs(found.value_N - found.raw_N) <= half_N))
        coverage.append(row)
    sigma_N = known.deviation(found.design_NF)
    return {
        "num_users": len(tasks),
        "num_rows": len(found.user_N),
        "fitted_to_users": known.num_users,
        "coverage": coverage,
        "bins": _bins(sigma_N, np.abs(found.residual_N), weight_N),
        "levels": [] if found.shares is None else _levels(found, found.shares, generator),
    }


def _levels(
    found: Residuals, shares: LevelShares, generator: np.random.Generator
) -> list[dict[str, float]]:
    """Return the mean predicted probability of each level, and its observed share."""
    users, place_N = np.unique(found.user_N, return_inverse=True)
    step = np.diff(shares.value_L).min()
    is_level_NL = np.abs(found.value_N[:, None] - shares.value_L) < step / 2
    observed_UL = np.zeros((len(users), len(shares.value_L)))
    np.add.at(observed_UL, place_N, is_level_NL * found.weight_N[:, None])
    predicted_L = found.weight_N @ shares.share_L / len(users)
    rows = []
    for level, predicted, observed in zip(
        shares.value_L, predicted_L, mean_intervals(observed_UL, generator), strict=True
    ):
        row = {"level": level, "predicted": predicted, "observed": observed.mean}
        if observed.num_users >= MIN_USERS:
            row |= {"ci_low": observed.ci_low, "ci_high": observed.ci_high}
        rows.append({name: float(number) for name, number in row.items()})
    return rows


def _held(known: Uncertainty, found: Residuals) -> Float64Array:
    """Return (U, L) the share of each user's values that lie within their intervals."""
    half_NL = known.deviation(found.design_NF)[:, None] * np.array(known.factors)
    is_held_NL = np.abs(found.residual_N)[:, None] <= half_NL
    users, place_N = np.unique(found.user_N, return_inverse=True)
    total_UL = np.zeros((len(users), len(LEVELS)))
    np.add.at(total_UL, place_N, is_held_NL * found.weight_N[:, None])
    return total_UL


def _bins(
    sigma_N: Float64Array, size_N: Float64Array, weight_N: Float64Array
) -> list[dict[str, float]]:
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
