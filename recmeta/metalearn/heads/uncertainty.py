"""The expected value and its uncertainty, with intervals that hold as often as stated.

    expected = intercept + slope · learner's output log σ² = c · [1, log(1 + n), log(1 + users of
    the item), middle, log v, log s²]

A learner that is trained for the least absolute error need not have its mean on the scale of the
values: the straight line puts it there, by least squares. n is the size of the support and v the
shrunk variance of its values: users whose values vary more are harder to predict. `middle` is how
far the expected value is from the ends of the scale, past which no value can lie, and s the
learner's own spread, where it has one. The coefficients maximise the Gaussian likelihood of
residuals of users on whom the model was not trained: a gamma regression of squared residuals with
log link (Dunn and Smyth, Generalized Linear Models With Examples in R, Springer 2018, chapter 11).
No coefficient may have the wrong sign: more rows of a user, or more users of an item, never make a
prediction less certain. Intervals are the expected value ± a factor times σ; the factors are
quantiles of |residual| / σ of the same users (normalised split conformal prediction: Lei et al.,
JASA 2018), each computed with a σ that was learned from the other users (cross-conformal
prediction: Vovk, Annals of Mathematics and Artificial Intelligence 2015). They hold for values on a
scale, whose residuals are not Gaussian. A user's rows go together, so that users are the
exchangeable units, and for K users the quantile is taken at level (K + 1) / K (Dunn, Wasserman and
Ramdas, JASA 2023).

Legend: B users, N rows, F features.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged

FloatArray = npt.NDArray[np.floating]
LEVELS = (0.5, 0.8, 0.9, 0.95)
SIGNS = {
    "constant": 0,
    "support": -1,
    "popularity": -1,
    "middle": 1,
    "variance": 1,
    "spread": 1,
}
"""The sign that each coefficient may have; 0 means either."""
FOLDS = 10
"""The number of parts of the users, each judged by coefficients learned from the other parts."""
FEWEST_ROWS = 100
"""With fewer residuals, no uncertainty is given."""
MEAN_SHRINKAGE, VARIANCE_SHRINKAGE = 3.0, 5.0
"""Mean and variance of a support's values are shrunk to those of all values as if by this many more
rows."""
LINE_SHRINKAGE = 20.0
"""The line of expected values is shrunk to the learner's outputs as if by this many more users."""
MAX_ITERATIONS = 100
LOG_VARIANCE_RANGE = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """The expected value as a function of the learner's output, and its standard deviation as a
    function of the inputs."""

    intercept: float = 0.0
    """The intercept, in units of the value."""
    slope: float = 1.0
    """The slope; not negative, so that expected values keep the learner's order."""
    constant: float
    support: float
    """The coefficient of log(1 + rows that the user is adapted to); not positive."""
    popularity: float
    """The coefficient of log(1 + users who had met the item); not positive."""
    middle: float
    """The coefficient of log(0.05 + 4 p (1 - p)), where p is the expected value's place in the
    range of values; not negative, since errors are smaller towards the ends of the scale."""
    variance: float
    """The coefficient of the log of the support's shrunk variance, in squared units of the value;
    not negative."""
    spread: float | None
    """The coefficient of the log of the learner's own variance, in units of the value; not
    negative. None if the learner has no variance."""
    factors: tuple[float, ...]
    """The half widths of the intervals of `LEVELS`, in standard deviations."""
    num_users: int
    """The number of users to whose residuals the coefficients were fitted."""

    def expected(self, value: FloatArray) -> FloatArray:
        """Return the expected values, (...), in units of the value, which may lie beyond the ends
        of its range.

        Args:
            value: the learner's output, in the same units.
        """
        return np.asarray(self.intercept + self.slope * value, value.dtype)

    def deviation(self, design_NF: Float64Array) -> Float64Array:
        """Return (N,) standard deviations, in units of the value."""
        names = list(SIGNS)[: design_NF.shape[-1]]
        coefficient_F = np.array([getattr(self, name) or 0.0 for name in names])
        return np.asarray(np.exp(_clipped(design_NF @ coefficient_F) / 2))


def design(
    value: Float64Array,
    value_range: tuple[float, float],
    num_support: Float64Array,
    num_users: Float64Array,
    variance: Float64Array,
    spread: Float64Array | None,
) -> Float64Array:
    """Return the features of the standard deviation, (..., F) for inputs of shape (...).

    Args:
        value: the expected values, in units of the value.
        value_range: smallest and largest value.
        num_support: number of rows that the model is adapted to.
        num_users: number of users who had interacted with the item.
        variance: the variance of the support's values, from `support_variance`.
        spread: the learner's standard deviation, in units of the value, or None if it has none.
    """
    middle = _middle(value, value_range)
    columns = [
        np.ones_like(middle),
        np.log1p(num_support) + 0 * middle,
        np.log1p(num_users) + 0 * middle,
        middle,
        np.log(variance) + 0 * middle,
    ]
    if spread is not None:
        columns.append(2 * np.log(np.maximum(spread, 1e-6)))
    return np.stack(columns, -1).astype(np.float64)


def with_expected(
    design_NF: Float64Array, value_N: Float64Array, value_range: tuple[float, float]
) -> Float64Array:
    """Return these features for other expected values."""
    changed_NF = design_NF.copy()
    changed_NF[:, list(SIGNS).index("middle")] = _middle(value_N, value_range)
    return changed_NF


def _middle(value: Float64Array, value_range: tuple[float, float]) -> Float64Array:
    low, high = value_range
    place = np.clip((value - low) / max(high - low, 1e-9), 0, 1)
    return np.asarray(np.log(0.05 + 4 * place * (1 - place)))


def support_variance(support: Ragged, mean: float, scale: float) -> Float64Array:
    """Return (B,) the shrunk variance of the values of each user's support.

    Args:
        mean: the mean of all values.
        scale: their standard deviation.
    """
    num_rows_B, task_N = support.lengths, support.task
    sum_B = np.bincount(task_N, support.value, minlength=len(support))
    mean_B = (sum_B + MEAN_SHRINKAGE * mean) / (num_rows_B + MEAN_SHRINKAGE)
    squares_N = (support.value - mean_B[task_N]) ** 2
    squares_B = np.bincount(task_N, squares_N, minlength=len(support))
    shrunk_B = (squares_B + VARIANCE_SHRINKAGE * scale**2) / (num_rows_B + VARIANCE_SHRINKAGE)
    return np.asarray(shrunk_B)


def fit_line(
    output_N: Float64Array, value_N: Float64Array, weight_N: Float64Array, num_users: int
) -> tuple[float, float]:
    """Return intercept and slope (not negative) of the least-squares line of values on the
    learner's outputs, shrunk to the outputs themselves; 0 and 1 if all outputs are equal.

    Users differ in their mean values, so that the line of a few of them moves all predictions by
    what is theirs alone.

    Args:
        num_users: the number of users whose rows these are.
    """
    weight_N = weight_N / max(float(weight_N.sum()), 1e-12)
    output, value = float(weight_N @ output_N), float(weight_N @ value_N)
    variance = float(weight_N @ (output_N - output) ** 2)
    if variance < 1e-12:
        return 0.0, 1.0
    slope = max(0.0, float(weight_N @ ((output_N - output) * (value_N - value))) / variance)
    kept = num_users / (num_users + LINE_SHRINKAGE)
    slope = 1 + kept * (slope - 1)
    return output + kept * (value - output) - slope * output, slope


def fit(
    design_NF: Float64Array,
    residual_N: Float64Array,
    weight_N: Float64Array,
    user_N: IntArray,
    line: tuple[float, float] = (0.0, 1.0),
) -> Uncertainty | None:
    """Return the uncertainty fitted to residuals, or None if there are too few of them.

    Args:
        residual_N: values minus expected values, in units of the value.
        weight_N: the weight of each row.
        user_N: the user of each row.
        line: the intercept and slope of the expected values.
    """
    if len(residual_N) < FEWEST_ROWS or not residual_N.any():
        return None
    users, user_N = np.unique(user_N, return_inverse=True)
    coefficient_F = _coefficients(design_NF, residual_N, weight_N)
    log_N = design_NF @ coefficient_F
    num_folds = min(FOLDS, len(users))
    for fold in range(num_folds if num_folds > 1 else 0):
        rows_N = user_N % num_folds == fold
        others = _coefficients(design_NF[~rows_N], residual_N[~rows_N], weight_N[~rows_N])
        log_N[rows_N] = design_NF[rows_N] @ others
    ratio_N = np.abs(residual_N) * np.exp(-_clipped(log_N) / 2)
    levels = np.array(LEVELS) * (len(users) + 1) / len(users)
    names = list(SIGNS)[: design_NF.shape[1]]
    found = dict(zip(names, coefficient_F.tolist(), strict=True))
    return Uncertainty(
        intercept=line[0],
        slope=line[1],
        spread=found.pop("spread", None),
        factors=tuple(_quantiles(ratio_N, weight_N, levels).tolist()),
        num_users=len(users),
        **found,
    )


def _coefficients(
    design_NF: Float64Array, residual_N: Float64Array, weight_N: Float64Array
) -> Float64Array:
    """Return the coefficients (F,); those that would have the wrong sign are 0."""
    sign_F = np.array(list(SIGNS.values())[: design_NF.shape[1]])
    kept = np.arange(design_NF.shape[1])
    while True:
        found = _gamma_regression(design_NF[:, kept], residual_N**2, weight_N)
        is_wrong = sign_F[kept] * found < 0
        if not is_wrong.any():
            break
        weight_of = np.abs(found) * design_NF[:, kept].std(0) + 1e-12
        kept = np.delete(kept, np.argmax(np.where(is_wrong, weight_of, 0)))
    coefficient_F = np.zeros(design_NF.shape[1])
    coefficient_F[kept] = found
    return coefficient_F


def _gamma_regression(
    design_NF: Float64Array, square_N: Float64Array, weight_N: Float64Array
) -> Float64Array:
    """Return the coefficients of log E[square], by Fisher scoring with halved steps."""
    weight_N = weight_N / weight_N.sum()
    information_FF = design_NF.T @ (weight_N[:, None] * design_NF)
    information_FF += 1e-9 * np.eye(len(information_FF))
    coefficient_F = np.zeros(design_NF.shape[1])
    coefficient_F[0] = np.log(max(float(weight_N @ square_N), 1e-12))

    def loss(c_F: Float64Array) -> float:
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


def _quantiles(ratio_N: Float64Array, weight_N: Float64Array, levels: Float64Array) -> Float64Array:
    """Return, for each level, the smallest ratio at or below which this share of the weight lies,
    or the largest ratio for a level above 1."""
    order = np.argsort(ratio_N, kind="stable")
    share_N = np.cumsum(weight_N[order]) / weight_N.sum()
    place = np.minimum(np.searchsorted(share_N, levels), len(order) - 1)
    return np.asarray(ratio_N[order][place])


def _clipped(log_variance: Float64Array) -> Float64Array:
    return np.clip(log_variance, -LOG_VARIANCE_RANGE, LOG_VARIANCE_RANGE)
