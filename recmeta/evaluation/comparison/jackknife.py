"""Confidence intervals of numbers that belong to all users together: the delete-a-group jackknife.

In the bootstrap the same user is drawn more than once, and a list that occurs twice adds no new
items: it is biased for numbers that count distinct items or compare users with each other. Leaving
out one group of users at a time is not (Quenouille, Biometrika 1956; for counts of distinct kinds
Burnham and Overton, Ecology 1979; for means over pairs Arvesen, Annals of Mathematical Statistics
1969).
"""

import statistics
from collections.abc import Callable

import numpy as np

from recmeta.evaluation.comparison.bootstrap import Interval
from recmeta.evaluation.metric import TopLists

NUM_GROUPS = 20


def jackknife_interval(
    lists: TopLists, of: Callable[[TopLists], float | None], confidence: float = 0.95
) -> Interval:
    """Return the interval of a number that belongs to all lists together, or NaN where it is
    undefined.

    Users are dealt into 20 groups, or into one group each if there are fewer. The interval is
    Student's, with the standard error of the numbers without one group.
    """
    whole, num_users = of(lists), len(lists)
    mean = np.nan if whole is None else whole
    num_groups = min(NUM_GROUPS, num_users)
    low = high = np.nan
    if num_groups >= 2 and np.isfinite(mean):
        group_U = np.arange(num_users) % num_groups
        without_G = np.array(
            [of(lists.take(np.flatnonzero(group_U != group))) for group in range(num_groups)],
            np.float64,
        )
        error = float(np.sqrt((num_groups - 1) * without_G.var()))
        reach = student_quantile(0.5 + confidence / 2, num_groups - 1) * error
        low, high = mean - reach, mean + reach
    return Interval(mean=mean, ci_low=low, ci_high=high, num_users=num_users)


def student_quantile(level: float, freedom: int) -> float:
    """Return a quantile of Student's distribution, by three terms of its expansion around the
    normal one (Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(level)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
