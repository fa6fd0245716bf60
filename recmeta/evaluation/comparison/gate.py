"""Whether a candidate may become the champion: a pure function of per-user metrics, with reasons.

Refused if the candidate
- is not significantly better than the champion, where there is one: a tie keeps the champion;
- is significantly worse than any baseline;
- or cannot be judged: too few users, a metric that is not finite, or other users than it is
  compared on.

A tie with a baseline does not refuse, and is written in the reasons. "Significantly" means that the
paired bootstrap interval of the mean difference over the same users leaves out zero. There is no
correction for several baselines: each is one more way to be refused, never one more way to pass.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.comparison.bootstrap import Interval, paired_difference
from recmeta.tasks.arrays import Float64Array

Verdict = Literal["better", "worse", "tie"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How the gate tests."""

    confidence: float = 0.95
    """Level of the paired bootstrap intervals, between 0 and 1."""
    num_resamples: int = 2000
    """Bootstrap resamples per comparison."""
    min_users: int = 30
    """Fewer held-out users than this decide nothing."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UserError(f"confidence is {self.confidence}; it must lie between 0 and 1.")
        if self.num_resamples < 1:
            raise UserError(f"num_resamples is {self.num_resamples}; it must be 1 or more.")
        if self.min_users < 2:
            raise UserError(f"min_users is {self.min_users}; it must be 2 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The candidate against one other, on the same users."""

    against: str
    mean_difference: float
    """Candidate minus the other, in the metric's unit."""
    ci_low: float
    ci_high: float
    num_users: int
    verdict: Verdict
    """Of the candidate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateDecision:
    """What the gate decided and why; every field is JSON-ready through `recmeta.config.to_dict`."""

    promoted: bool
    reasons: tuple[str, ...]
    """Sentences; those that refuse come first."""
    comparisons: tuple[Comparison, ...]
    """Against the champion, where there is one, then against the baselines."""
    beaten_by: tuple[str, ...]
    """Baselines that the candidate is significantly worse than."""


def decide(
    candidate: str,
    champion: str | None,
    per_user: Mapping[str, Float64Array],
    baselines: Sequence[str],
    metric: str,
    lower_is_better: bool,
    config: GateConfig,
    generator: np.random.Generator,
) -> GateDecision:
    """Decide whether the candidate is promoted to champion.

    Args:
        candidate: the name of the candidate in `per_user`.
        champion: the name of the reigning champion in `per_user`, or None for the first model.
        per_user: (U,) the metric of each held-out user by predictor, all in the same order; NaN
            where it is undefined for the user, which then must be so for all predictors.
        baselines: names in `per_user` that the candidate must not lose to.
        metric: name of the metric, for the reasons.
        generator: of the resamples.

    Raises:
        KeyError: where a name is not in `per_user`.
    """
    others = [*([] if champion is None else [champion]), *baselines]
    refusals = _unfit(candidate, others, per_user, metric, config)
    if refusals:
        return _decision(refusals, [], (), ())

    notes: list[str] = []
    comparisons = []
    for other in others:
        interval = paired_difference(
            per_user[candidate],
            per_user[other],
            generator,
            config.num_resamples,
            config.confidence,
        )
        comparison = _compare(other, interval, lower_is_better)
        comparisons.append(comparison)
        is_champion = other == champion
        sentence = _sentence(
            "the champion" if is_champion else other,
            comparison,
            metric,
            float(np.nanmean(per_user[candidate])),
            float(np.nanmean(per_user[other])),
            config.confidence,
        )
        if is_champion and comparison.verdict == "tie":
            refusals.append(f"{sentence} A tie keeps the champion.")
        elif comparison.verdict == "worse":
            refusals.append(sentence)
        else:
            notes.append(sentence)
    if champion is None:
        notes.append("There is no champion yet to compare with.")
    beaten_by = tuple(
        c.against for c in comparisons if c.against in baselines and c.verdict == "worse"
    )
    return _decision(refusals, notes, tuple(comparisons), beaten_by)


def _unfit(
    candidate: str,
    others: Sequence[str],
    per_user: Mapping[str, Float64Array],
    metric: str,
    config: GateConfig,
) -> list[str]:
    """Return why nothing can be decided from these numbers, if so."""
    own = per_user[candidate]
    reasons = []
    num_users = int(np.isfinite(own).sum())
    if np.isinf(own).any():
        reasons.append(
            f"The candidate's {metric} is not finite for {int(np.isinf(own).sum())} of "
            f"{len(own)} users."
        )
    if num_users < config.min_users:
        reasons.append(
            f"Only {num_users} held-out users have a {metric} by the candidate; at least "
            f"{config.min_users} are needed to decide."
        )
    for other in others:
        theirs = per_user[other]
        if len(theirs) != len(own):
            reasons.append(
                f"The candidate was evaluated on {len(own)} users and {other} on {len(theirs)}: "
                "they must be the same."
            )
            continue
        if np.isinf(theirs).any():
            reasons.append(f"The {metric} of {other} is not finite for some users.")
        num_differing = int((np.isnan(own) != np.isnan(theirs)).sum())
        if num_differing:
            reasons.append(
                f"The candidate and {other} have a {metric} for different users "
                f"({num_differing} of {len(own)} have only one of the two)."
            )
    return reasons


def _compare(against: str, difference: Interval, lower_is_better: bool) -> Comparison:
    if difference.ci_low > 0:
        verdict: Verdict = "worse" if lower_is_better else "better"
    elif difference.ci_high < 0:
        verdict = "better" if lower_is_better else "worse"
    else:
        verdict = "tie"
    return Comparison(
        against=against,
        mean_difference=difference.mean,
        ci_low=difference.ci_low,
        ci_high=difference.ci_high,
        num_users=difference.num_users,
        verdict=verdict,
    )


def _sentence(
    other: str,
    comparison: Comparison,
    metric: str,
    own_mean: float,
    other_mean: float,
    confidence: float,
) -> str:
    opening = {
        "better": f"Better than {other}",
        "worse": f"Worse than {other}",
        "tie": f"Not distinguishable from {other}",
    }[comparison.verdict]
    return (
        f"{opening}: {metric} {own_mean:.4f} against {other_mean:.4f}, a difference of "
        f"{comparison.mean_difference:+.4f} ({confidence:.0%} interval {comparison.ci_low:+.4f} to "
        f"{comparison.ci_high:+.4f}, {comparison.num_users} users)."
    )


def _decision(
    refusals: Sequence[str],
    notes: Sequence[str],
    comparisons: tuple[Comparison, ...],
    beaten_by: tuple[str, ...],
) -> GateDecision:
    return GateDecision(
        promoted=not refusals,
        reasons=(*refusals, *notes),
        comparisons=comparisons,
        beaten_by=beaten_by,
    )
