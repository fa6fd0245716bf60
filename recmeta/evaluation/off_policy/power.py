"""The duration of an A/B test that detects an effect: two groups of users, one number per user.

For a rate, the two-sided z-test of two proportions, pooled under the null hypothesis (Fleiss, Levin
and Paik, Statistical Methods for Rates and Proportions, 3rd edition, 2003, equations 4.14 and 4.19,
without the correction for continuity); for a mean, the z-test with a known deviation.
"""

import dataclasses
import math
import statistics

from recmeta.errors import UserError

_NORMAL = statistics.NormalDist()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ABTest:
    """The size and the duration of a test."""

    users_in_control: int
    """The number of users whose lists do not change."""
    users_in_treatment: int
    """The number of users who get the tested variant."""
    days: int
    """The number of whole days until this many users have come."""
    power: float
    """The probability that a test of this size detects the effect, if it exists."""

    @property
    def users(self) -> int:
        """The number of users in both groups."""
        return self.users_in_control + self.users_in_treatment


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Design:
    """The variances that determine the size of a test."""

    effect: float
    null: float
    """The variance of the difference, times the number of users, if there is no effect."""
    alternative: float
    """The same variance, if there is an effect."""
    level: float

    def num_users(self, power: float) -> float:
        """Return the number of users that both groups need together."""
        reach = _NORMAL.inv_cdf(1 - self.level / 2) * math.sqrt(self.null)
        reach += _NORMAL.inv_cdf(power) * math.sqrt(self.alternative)
        return (reach / self.effect) ** 2

    def power(self, num_users: int) -> float:
        """Return the probability that this many users show the effect, in its own direction."""
        reach = _NORMAL.inv_cdf(1 - self.level / 2) * math.sqrt(self.null)
        shown = (abs(self.effect) * math.sqrt(num_users) - reach) / math.sqrt(self.alternative)
        return _NORMAL.cdf(shown)


def ab_test(
    *,
    effect: float,
    users_per_day: float,
    rate: float | None = None,
    deviation: float | None = None,
    level: float = 0.05,
    power: float = 0.8,
    treatment_share: float = 0.5,
) -> ABTest:
    """Return the numbers of users and days that an A/B test needs to detect an effect.

    Args:
        effect: the smallest difference worth detecting, in units of the rate (0.005 is half a
            percentage point) or of the mean; negative for a fall.
        users_per_day: new users who enter the test each day, in both groups together.
        rate: the share of users with a success today, between 0 and 1; for a rate.
        deviation: the standard deviation of a user's number; for a mean. One of the two is given.
        level: the level of the two-sided test: the probability of detecting an effect where there
            is none.
        power: the probability of detecting the effect if it exists.
        treatment_share: the share of the users who get the tested variant.

    Raises:
        UserError: for a number out of its range, or if not exactly one of `rate` and `deviation` is
            given.
    """
    for name, value in (("level", level), ("power", power), ("treatment_share", treatment_share)):
        if not 0 < value < 1:
            raise UserError(f"{name} is {value}; it must lie between 0 and 1.")
    if not 0 < users_per_day < math.inf:
        raise UserError(f"users_per_day is {users_per_day}; it must be positive and finite.")
    if effect == 0 or not math.isfinite(effect):
        raise UserError(f"effect is {effect}; it must be finite and not 0.")
    if power <= level / 2:
        raise UserError(f"power is {power}; it must be above half of level ({level / 2}).")
    design = _design(effect, rate, deviation, level, treatment_share)
    least = design.num_users(power)
    treated = math.ceil(least * treatment_share)
    control = math.ceil(least * (1 - treatment_share))
    return ABTest(
        users_in_control=control,
        users_in_treatment=treated,
        days=math.ceil((control + treated) / users_per_day),
        power=design.power(control + treated),
    )


def _design(
    effect: float, rate: float | None, deviation: float | None, level: float, treated: float
) -> _Design:
    """Return the design for a rate or a mean."""
    if (rate is None) == (deviation is None):
        raise UserError("give either rate, for a share of users, or deviation, for a mean.")
    parts = 1 / treated + 1 / (1 - treated)
    if rate is None:
        assert deviation is not None, "one of the two is given"
        if not 0 < deviation < math.inf:
            raise UserError(f"deviation is {deviation}; it must be positive and finite.")
        variance = deviation**2 * parts
        return _Design(effect=effect, null=variance, alternative=variance, level=level)
    if not 0 < rate < 1:
        raise UserError(f"rate is {rate}; it must lie between 0 and 1.")
    other = rate + effect
    if not 0 < other < 1:
        raise UserError(
            f"effect is {effect}: with it the rate would be {other:g}, which must lie between 0 "
            "and 1."
        )
    pooled = (1 - treated) * rate + treated * other
    return _Design(
        effect=effect,
        null=pooled * (1 - pooled) * parts,
        alternative=other * (1 - other) / treated + rate * (1 - rate) / (1 - treated),
        level=level,
    )
