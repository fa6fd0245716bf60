"""Confidence intervals of means over users: percentile bootstrap, also paired for two predictors.

Whole users are drawn with replacement, because users are independent and their rows are not (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

Legend: U users, M metrics, S resamples.
"""

import dataclasses

import numpy as np

from recmeta.tasks.arrays import Float64Array

MAX_DRAWS = 2**22  # the most numbers drawn at once, so that memory stays at some tens of megabytes
MIN_USERS = 2  # one user has no spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over users with its confidence interval; NaN where undefined."""

    mean: float
    ci_low: float
    ci_high: float
    num_users: int
    """The number of users with a value."""


def mean_intervals(
    values_UM: Float64Array,
    generator: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> list[Interval]:
    """Return the interval of every column's mean over the users that have a value there.

    All columns share the same resamples of users. A column with a single user, or with an infinite
    value, has no interval (NaN).
    """
    present_UM = ~np.isnan(values_UM)
    num_users_M = present_UM.sum(axis=0)
    filled_UM = np.where(present_UM, values_UM, 0.0)
    with np.errstate(invalid="ignore"):  # infinities of both signs sum to NaN, which is right
        total_M = filled_UM.sum(axis=0)
    mean_M = np.divide(
        total_M, num_users_M, out=np.full(len(total_M), np.nan), where=num_users_M > 0
    )
    usable_M = np.isfinite(total_M) & (num_users_M >= MIN_USERS)
    low_M, high_M = np.full((2, len(mean_M)), np.nan)
    if usable_M.any():
        # Centred, so that a mean far from zero costs no digits.
        present_UM = present_UM[:, usable_M]
        centred_UM = np.where(present_UM, filled_UM[:, usable_M] - mean_M[usable_M], 0.0)
        means_SM = resampled_means(
            centred_UM, present_UM.astype(np.float64), generator, num_resamples
        )
        tail = (1.0 - confidence) / 2.0
        bounds = np.nanquantile(means_SM, [tail, 1.0 - tail], axis=0)
        low_M[usable_M], high_M[usable_M] = bounds + mean_M[usable_M]
    return [
        Interval(mean=float(m), ci_low=float(lo), ci_high=float(hi), num_users=int(n))
        for m, lo, hi, n in zip(mean_M, low_M, high_M, num_users_M, strict=True)
    ]


def paired_difference(
    first_U: Float64Array,
    second_U: Float64Array,
    generator: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the interval of the mean of first - second, over the users that have both.

    Pairing removes how easy or hard a user is for every predictor, which is most of the variance.
    """
    difference_U = first_U - second_U
    both_U = ~(np.isnan(first_U) | np.isnan(second_U))
    return mean_intervals(difference_U[both_U][:, None], generator, num_resamples, confidence)[0]


def resampled_means(
    values_UM: Float64Array,
    present_UM: Float64Array,
    generator: np.random.Generator,
    num_resamples: int,
) -> Float64Array:
    """Return (S, M) means over users who are drawn with replacement, the same in all columns.

    Args:
        values_UM: the values, finite; 0 where a user has no value.
        present_UM: 1 where a user has a value, 0 elsewhere; (U, 1) if it is the same for all
            columns.
    """
    num_users, num_metrics = values_UM.shape
    means_SM = np.empty((num_resamples, num_metrics))
    step = max(1, MAX_DRAWS // num_users)
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        drawn_SU = generator.integers(num_users, size=(size, num_users))
        cells = (drawn_SU + num_users * np.arange(size)[:, None]).ravel()
        times_SU = np.bincount(cells, minlength=size * num_users).reshape(size, num_users)
        times_SU = times_SU.astype(np.float64)
        total_SM, count_SM = times_SU @ values_UM, times_SU @ present_UM
        means_SM[start : start + size] = np.divide(
            total_SM, count_SM, out=np.full_like(total_SM, np.nan), where=count_SM > 0
        )
    return means_SM
