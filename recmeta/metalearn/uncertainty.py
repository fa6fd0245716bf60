"""How far a prediction may be off: a standard deviation, and intervals that hold as often as said.

    log σ² = c · [1, log(1 + n), log(1 + users of the item), middle, log v, log s²]

n is the size of the support and v the variance of its values, shrunk: whose values vary more, those
are harder to predict. `middle` is how far the prediction is from the ends of the scale, past which
no value can lie, and s the learner's own spread, where it has one. The coefficients maximise the
Gaussian likelihood of residuals of users on whom the model was not trained: a gamma regression of
squared residuals with log link (Dunn and Smyth, Generalized Linear Models With Examples in R,
Springer 2018, chapter 11).
No coefficient may have the wrong sign: who is known better, and an item that is known better, is
never predicted with less certainty. Intervals are the prediction ± a factor times σ; the factors
are quantiles of |residual| / σ of the same users (normalised split conformal prediction: Lei et
al., JASA 2018), so that they hold for values on a scale, whose residuals are not Gaussian.

Legend: B users, N rows, F features.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from recmeta.tasks.task_set import Ragged

Array = npt.NDArray[np.float64]
LEVELS = (0.5, 0.8, 0.9, 0.95)
SIGNS = {
    "constant": 0,
    "support": -1,
    "popularity": -1,
    "middle": 1,
    "variance": 1,
    "spread": 1,
}
"""Which sign each coefficient may have; 0: either."""
FEWEST_ROWS = 100
"""With fewer residuals nothing is said of the uncertainty."""
MEAN_SHRINKAGE, VARIANCE_SHRINKAGE = 3.0, 5.0
"""Mean and variance of a support's values are shrunk to those of all values as if by this many more
rows."""
MAX_ITERATIONS = 100
LOG_VARIANCE_RANGE = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """The standard deviation of a prediction, by what it was made from."""

    constant: float
    support: float
    """Per log(1 + rows that the user is adapted to); not positive."""
    popularity: float
    """Per log(1 + users who had met the item); not positive."""
    middle: float
    """Per log(0.05 + 4 p (1 - p)), p the prediction's place in the range of values; not negative:
    towards the ends of the scale less can go wrong."""
    variance: float
    """Per log of the support's shrunk variance, in squared units of the value; not negative."""
    spread: float | None
    """Per log of the learner's own variance, in units of the value; not negative. None: the learner
    has none."""
    factors: tuple[float, ...]
    """Half width of the intervals of `LEVELS`, in standard deviations."""
    num_users: int
    """Users whose residuals this was fitted to."""

    def deviation(self, design_NF: Array) -> Array:
        """Return (N,) standard deviations, in units of the value."""
        names = list(SIGNS)[: design_NF.shape[-1]]
        coefficient_F = np.array([getattr(self, name) or 0.0 for name in names])
        return np.asarray(np.exp(_clipped(design_NF @ coefficient_F) / 2))


def design(
    value: Array,
    value_range: tuple[float, float],
    num_support: Array,
    num_users: Array,
    variance: Array,
    spread: Array | None,
) -> Array:
    """Return what the standard deviation is a function of, (..., F) for inputs of shape (...).

    Args:
        value: predictions, in units of the value.
        value_range: smallest and largest value.
        num_support: rows that the user is adapted to.
        num_users: users who had met the item.
        variance: of the support's values, from `support_variance`.
        spread: the learner's standard deviation, in units of the value; None where it has none.
    """
    low, high = value_range
    place = np.clip((value - low) / max(high - low, 1e-9), 0, 1)
    columns = [
        np.ones_like(place),
        np.log1p(num_support) + 0 * place,
        np.log1p(num_users) + 0 * place,
        np.log(0.05 + 4 * place * (1 - place)),
        np.log(variance) + 0 * place,
    ]
    if spread is not None:
        columns.append(2 * np.log(np.maximum(spread, 1e-6)))
    return np.stack(columns, -1).astype(np.float64)


def support_variance(support: Ragged, mean: float, scale: float) -> Array:
    """Return (B,) the shrunk variance of the values of each user's support.

    Args:
        mean: of all values.
        scale: their standard deviation.
    """
    num_rows_B, task_N = support.lengths, support.task
    sum_B = np.bincount(task_N, support.value, minlength=len(support))
    mean_B = (sum_B + MEAN_SHRINKAGE * mean) / (num_rows_B + MEAN_SHRINKAGE)
    squares_N = (support.value - mean_B[task_N]) ** 2
    squares_B = np.bincount(task_N, squares_N, minlength=len(support))
    shrunk_B = (squares_B + VARIANCE_SHRINKAGE * scale**2) / (num_rows_B + VARIANCE_SHRINKAGE)
    return np.asarray(shrunk_B)


def fit(design_NF: Array, residual_N: Array, weight_N: Array, num_users: int) -> Uncertainty | None:
    """Return the standard deviations that residuals speak for; None where these are too few.

    Args:
        residual_N: value less prediction, in units of the value.
        weight_N: how much each row counts.
    """
    if len(residual_N) < FEWEST_ROWS or not residual_N.any():
        return None
    names = list(SIGNS)[: design_NF.shape[1]]
    kept = list(range(len(names)))
    while True:
        found = _gamma_regression(design_NF[:, kept], residual_N**2, weight_N)
        wrong = {n: c for n, c in zip(kept, found, strict=True) if SIGNS[names[n]] * c < 0}
        if not wrong:
            break
        kept.remove(max(wrong, key=lambda n: abs(wrong[n]) * design_NF[:, n].std()))
    coefficients = dict.fromkeys(SIGNS, 0.0)
    coefficients |= {names[n]: float(c) for n, c in zip(kept, found, strict=True)}
    spread = coefficients.pop("spread")
    sigma_N = np.exp(_clipped(design_NF[:, kept] @ found) / 2)
    return Uncertainty(
        **coefficients,
        spread=spread if "spread" in names else None,
        factors=tuple(_quantiles(np.abs(residual_N) / sigma_N, weight_N).tolist()),
        num_users=num_users,
    )


def _gamma_regression(design_NF: Array, square_N: Array, weight_N: Array) -> Array:
    """Return the coefficients of log E[square], by Fisher scoring with halved steps."""
    weight_N = weight_N / weight_N.sum()
    information_FF = design_NF.T @ (weight_N[:, None] * design_NF)
    information_FF += 1e-9 * np.eye(len(information_FF))
    coefficient_F = np.zeros(design_NF.shape[1])
    coefficient_F[0] = np.log(max(float(weight_N @ square_N), 1e-12))

    def loss(c_F: Array) -> float:
        log_N = _clipped(design_NF @ c_F)
        return float(weight_N @ (log_N + square_N * np.exp(-log_N)))

    now = loss(coefficient_F)
    for _ in range(MAX_ITERATIONS):
        ratio_N = square_N * np.exp(-_clipped(design_NF @ coefficient_F))
        step_F = np.linalg.solve(information_FF, design_NF.T @ (weight_N * (ratio_N - 1)))
        size = 1.0
        while size > 1e-6 and loss(coefficient_F + size * step_F) > now:
            size /= 2
        coefficient_F = coefficient_F + size * step_F
        before, now = now, min(now, loss(coefficient_F))
        if before - now < 1e-10:
            break
    return coefficient_F


def _quantiles(ratio_N: Array, weight_N: Array) -> Array:
    """Return the smallest ratios below which the levels' shares of the weight lie."""
    order = np.argsort(ratio_N, kind="stable")
    share_N = np.cumsum(weight_N[order]) / weight_N.sum()
    place = np.minimum(np.searchsorted(share_N, LEVELS), len(order) - 1)
    return np.asarray(ratio_N[order][place])


def _clipped(log_variance: Array) -> Array:
    return np.clip(log_variance, -LOG_VARIANCE_RANGE, LOG_VARIANCE_RANGE)
