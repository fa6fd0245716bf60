"""What another policy would have earned, estimated from lists that one policy served.

A list earns the sum of the rewards of its places. The reward of a place may depend on the user, the
item and the place, but not on the items around it (the item-position model: Li et al., KDD 2018,
section 4.2). With p(a, j | x) the logged propensity of item a at place j, π(a, j | x) that of the
other policy, w = π / p, and n running over the S slates:

    IPS     1/S Σ_n Σ_j w_nj r_nj                     Horvitz and Thompson, JASA 1952
    SNIPS   Σ_j m_j (Σ_n w_nj r_nj) / (Σ_n w_nj)      Swaminathan and Joachims, NeurIPS 2015
    DR      1/S Σ_n [Σ_a,j π(a, j | x_n) q(x_n, a, j) + Σ_j w_nj (r_nj − q(x_n, a_nj, j))]
                                                      Dudík, Langford and Li, ICML 2011

m_j is how often the other policy fills place j, and q a model of rewards (`reward_model`). IPS and
DR are unbiased if the propensities are right and every item that the other policy shows had a
chance to be logged; SNIPS is so in the limit, and often the most precise of the three without a
good model of rewards. Intervals are percentile bootstraps over users, whose slates are drawn
together, since they are not independent.

Legend: U users, S slates, N logged places, T places of other lists, J places, B resamples.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np

from recmeta.evaluation.comparison.bootstrap import MIN_USERS, Interval, resampled_means
from recmeta.evaluation.off_policy.reward_model import cross_fitted
from recmeta.evaluation.off_policy.slates import LoggedSlates, OtherLists, importance_weights
from recmeta.tasks.arrays import Float64Array, IntArray

EstimatorName = Literal["ips", "snips", "dr"]
FEWEST_EFFECTIVE = 100.0
"""The fewest effective places on which an estimate rests without a warning."""
LARGEST_SHARE = 0.05
"""The largest share of all weight that a single user has without a warning."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffPolicyConfig:
    """The settings of the estimates."""

    confidence: float = 0.95
    """The level of the intervals, between 0 and 1."""
    num_resamples: int = 2000
    """The number of bootstrap resamples of users."""
    seed: int = 0
    """The seed of the resamples and of the folds of users from which the model of rewards is
    learned."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; it must lie between 0 and 1.")
        if self.num_resamples < 1:
            raise ValueError(f"num_resamples is {self.num_resamples}; it must be 1 or more.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean reward of a list of the other policy, by one estimator."""

    value: Interval
    """The estimate, in units of the reward per list."""
    difference: Interval
    """The estimate minus the mean reward of the served lists, from the same resamples of users."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OffPolicyEstimates:
    """The estimates for the other policy."""

    logged: Interval
    """The mean reward of a served list."""
    estimates: dict[EstimatorName, Estimate]
    num_users: int
    num_slates: int
    num_rows: int
    """Logged places."""
    num_matched: int
    """The number of places whose item the other policy may also put there."""
    effective_rows: float
    """The number of places that an evenly weighted log of the same precision would have, (Σw)² /
    Σw² (Kish, Survey Sampling, 1965, section 11.7)."""
    overlap: Interval
    """The mean weight relative to its expected value: 1 if every place of the other lists had a
    chance to be logged and the propensities are right. If it is lower, the log does not cover part
    of them."""
    largest_share: float
    """The share of all weight of the user who has most."""
    warnings: tuple[str, ...]
    """Sentences about why the estimates may be unreliable; empty if there is no reason."""


def estimate(
    logged: LoggedSlates, other: OtherLists, config: OffPolicyConfig | None = None
) -> OffPolicyEstimates:
    """Return what another policy would have earned in place of the one that served the slates.

    Args:
        other: with at least one place for every slate.
    """
    config = config or OffPolicyConfig()
    folds, resamples = np.random.default_rng(config.seed).spawn(2)
    weight_N = importance_weights(logged, other)
    sums = _UserSums.of(logged, other, weight_N, folds)
    has_slates_U1 = np.ones((len(sums.whole), 1))
    means = resampled_means(sums.whole, has_slates_U1, resamples, config.num_resamples)

    def interval(of: Callable[[Float64Array], Float64Array]) -> Interval:
        return _interval(of, sums.whole, means, config.confidence)

    estimates = {
        name: Estimate(
            value=interval(of),
            difference=interval(lambda m, of=of: of(m) - sums.logged(m)),  # type: ignore[misc]
        )
        for name, of in sums.estimators.items()
    }
    overlap = interval(sums.overlap)
    user_N = logged.user_S[logged.slate_N]
    by_user_U = np.bincount(user_N, weight_N, minlength=len(sums.whole))
    total = float(weight_N.sum())
    largest = float(by_user_U.max(initial=0.0)) / total if total else 0.0
    squares = float((weight_N**2).sum())
    effective = total**2 / squares if squares else 0.0
    return OffPolicyEstimates(
        logged=interval(sums.logged),
        estimates=estimates,
        num_users=len(sums.whole),
        num_slates=len(logged.user_S),
        num_rows=len(weight_N),
        num_matched=int((weight_N > 0).sum()),
        effective_rows=effective,
        overlap=overlap,
        largest_share=largest,
        warnings=tuple(_warnings(effective, overlap, largest, config.confidence)),
    )


@dataclasses.dataclass(frozen=True)
class _UserSums:
    """The terms of the estimators, summed over each user's slates: the number of slates, their
    rewards, the terms of IPS and DR, then by place the weighted rewards, the weights, and how often
    the other policy fills it."""

    whole: Float64Array
    """(U, 4 + 3J)"""
    num_places: int

    @classmethod
    def of(
        cls,
        logged: LoggedSlates,
        other: OtherLists,
        weight_N: Float64Array,
        folds: np.random.Generator,
    ) -> "_UserSums":
        if logged.predicted_N is None or other.predicted_T is None:
            predicted_N, predicted_T = cross_fitted(logged, other, folds)
        else:
            predicted_N, predicted_T = logged.predicted_N, other.predicted_T
        num_users = 1 + int(logged.user_S.max(initial=-1))
        num_places = 1 + int(max(logged.place_N.max(initial=0), other.place_T.max(initial=0)))
        user_N, user_T = logged.user_S[logged.slate_N], logged.user_S[other.slate_T]
        earned_N = weight_N * logged.reward_N
        corrected_N = weight_N * (logged.reward_N - predicted_N)

        def by_user(user: IntArray, values: Float64Array) -> Float64Array:
            return np.bincount(user, values, num_users).astype(np.float64)

        def by_place(user: IntArray, place: IntArray, values: Float64Array) -> Float64Array:
            flat = np.bincount(user * num_places + place, values, num_users * num_places)
            return flat.reshape(num_users, num_places).astype(np.float64)

        expected_U = by_user(user_T, other.probability_T * predicted_T)
        first = np.column_stack(
            [
                np.bincount(logged.user_S, minlength=num_users),
                by_user(user_N, logged.reward_N),
                by_user(user_N, earned_N),
                expected_U + by_user(user_N, corrected_N),
            ]
        )
        parts = [
            by_place(user_N, logged.place_N, earned_N),
            by_place(user_N, logged.place_N, weight_N),
            by_place(user_T, other.place_T, other.probability_T),
        ]
        return cls(np.concatenate([first, *parts], axis=1), num_places)

    @property
    def estimators(self) -> dict[EstimatorName, Callable[[Float64Array], Float64Array]]:
        """The estimators by name, functions from means over users (B, 4 + 3J) to estimates (B,)."""
        return {
            "ips": lambda m: m[:, 2] / m[:, 0],
            "snips": self._self_normalised,
            "dr": lambda m: m[:, 3] / m[:, 0],
        }

    def logged(self, means: Float64Array) -> Float64Array:
        """Return (B,) the mean rewards of served lists."""
        earned: Float64Array = means[:, 1] / means[:, 0]
        return earned

    def overlap(self, means: Float64Array) -> Float64Array:
        """Return (B,) the mean weight relative to its expected value."""
        _, weights, filled = self._by_place(means)
        share: Float64Array = weights.sum(1) / filled.sum(1)
        return share

    def _self_normalised(self, means: Float64Array) -> Float64Array:
        """Return (B,) SNIPS, or NaN if a place that the other policy fills has no weight."""
        earned, weights, filled = self._by_place(means)
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = np.where(filled > 0, filled * earned / weights, 0.0)
        found: Float64Array = rate.sum(1) / means[:, 0]
        return found

    def _by_place(self, means: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
        size = self.num_places
        return means[:, 4 : 4 + size], means[:, 4 + size : 4 + 2 * size], means[:, 4 + 2 * size :]


def _interval(
    of: Callable[[Float64Array], Float64Array],
    sums: Float64Array,
    means: Float64Array,
    confidence: float,
) -> Interval:
    value = float(of(sums.mean(0, keepdims=True))[0])
    low = high = np.nan
    if len(sums) >= MIN_USERS and np.isfinite(value):
        tail = (1.0 - confidence) / 2.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all resamples may be NaN
            low, high = np.nanquantile(of(means), [tail, 1.0 - tail]).tolist()
    return Interval(mean=value, ci_low=low, ci_high=high, num_users=len(sums))


def _warnings(effective: float, overlap: Interval, largest: float, confidence: float) -> list[str]:
    """Return the reasons why the estimates may be unreliable."""
    if overlap.mean == 0:
        return [
            "The other policy never puts an item where the log has it, so that the log says "
            "nothing of it: serve lists with more exploration, or compare a policy that is nearer "
            "to the one that served."
        ]
    said = []
    if not overlap.ci_low <= 1 <= overlap.ci_high:
        what = (
            "the other policy has items at places where they could not be logged, whose rewards "
            "are left out of IPS"
            if overlap.mean < 1
            else "the logged propensities are smaller than the items were likely"
        )
        said.append(
            f"The mean weight is {overlap.mean:.3f} ({confidence:.0%} interval "
            f"{overlap.ci_low:.3f} to {overlap.ci_high:.3f}) and should be 1: {what}."
        )
    if effective < FEWEST_EFFECTIVE:
        said.append(
            f"The estimates rest on as much as {effective:.1f} places: their intervals are wide, "
            "and may be too narrow still."
        )
    if largest > LARGEST_SHARE:
        said.append(f"One user has {largest:.0%} of all weight: the intervals may be too narrow.")
    return said
