"""Whether a candidate may become the champion: a pure function of per-user metrics, with reasons.

There are up to two questions: how well it predicts ratings, and how good its lists are. The
candidate is refused if it
- is not significantly better than the champion, if there is one, on at least one question, or is
  significantly worse on any: a tie on all keeps the champion;
- is significantly worse than any baseline on any question;
- or cannot be judged: there are too few users, a metric is not finite, or others were evaluated on
  different users.

A tie with a baseline does not refuse, and is mentioned in the reasons. "Significantly" means that
the paired bootstrap interval of the mean difference over the same users excludes zero. There is no
correction for several baselines: each is one more way to be refused, never one more way to pass.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from recmeta.errors import UserError
from recmeta.evaluation.comparison.bootstrap import paired_difference
from recmeta.tasks.arrays import Float64Array

Verdict = Literal["better", "worse", "tie"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The settings of the gate's tests."""

    confidence: float = 0.95
    """The level of the paired bootstrap intervals, between 0 and 1."""
    num_resamples: int = 2000
    """The number of bootstrap resamples per comparison."""
    min_users: int = 30
    """The fewest held-out users on whom the gate decides."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UserError(f"confidence is {self.confidence}; it must lie between 0 and 1.")
        if self.num_resamples < 1:
            raise UserError(f"num_resamples is {self.num_resamples}; it must be 1 or more.")
        if self.min_users < 2:
            raise UserError(f"min_users is {self.min_users}; it must be 2 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A metric by which the candidate and others are compared on the same users."""

    about: str
    """Its name in the reasons, in the plural: `lists`, or `predicted ratings`."""
    metric: str
    """The name of the metric."""
    lower_is_better: bool
    per_user: Mapping[str, Float64Array]
    """(U,) the metric of each held-out user, by predictor that has it, all in the same order. It is
    NaN where it is undefined for a user, which must then be so for all predictors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of the candidate with one other predictor on the same users."""

    against: str
    metric: str
    """The metric, such as `mae`, or `full_ndcg@10` of lists."""
    mean_difference: float
    """The candidate's mean minus the other's, in the metric's unit."""
    ci_low: float
    ci_high: float
    num_users: int
    verdict: Verdict
    """The verdict on the candidate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateDecision:
    """The gate's decision and its reasons. Every field is JSON-ready through
    `recmeta.config.to_dict`."""

    promoted: bool
    reasons: tuple[str, ...]
    """Sentences, of which those that refuse come first."""
    comparisons: tuple[Comparison, ...]
    """The comparisons, question by question: with the champion, if there is one, then with the
    baselines."""
    beaten_by: tuple[str, ...]
    """Baselines that the candidate is significantly worse than on any question."""


def decide(
    candidate: str,
    champion: str | None,
    questions: Sequence[Question],
    baselines: Sequence[str],
    config: GateConfig,
    generator: np.random.Generator,
) -> GateDecision:
    """Return the decision whether the candidate becomes the champion.

    Args:
        candidate: the name of the candidate; every question has it.
        champion: the name of the reigning champion, or None for the first model; every question has
            it, too.
        questions: the metrics to compare, at least one.
        baselines: names that the candidate must not lose to on the questions that have them.
        generator: draws the resamples.

    Raises:
        KeyError: if a question does not have the candidate or the champion.
    """
    refusals: list[str] = []
    for question in questions:
        refusals += _unfit(candidate, _others(question, champion, baselines), question, config)
    if refusals:
        return _decision(refusals, [], (), ())

    notes: list[str] = []
    comparisons: list[Comparison] = []
    of_champion: list[tuple[Verdict, str]] = []
    for question in questions:
        for other in _others(question, champion, baselines):
            comparison = _compared(candidate, other, question, config, generator)
            comparisons.append(comparison)
            sentence = _sentence(candidate, other == champion, comparison, question, config)
            if other == champion:
                of_champion.append((comparison.verdict, sentence))
            elif comparison.verdict == "worse":
                refusals.append(sentence)
            else:
                notes.append(sentence)
    refused, noted = _against_the_champion(of_champion)
    if champion is None:
        notes.append("There is no champion yet to compare with.")
    beaten_by = dict.fromkeys(
        c.against for c in comparisons if c.against in baselines and c.verdict == "worse"
    )
    return _decision([*refused, *refusals], [*noted, *notes], tuple(comparisons), tuple(beaten_by))


def _against_the_champion(found: Sequence[tuple[Verdict, str]]) -> tuple[list[str], list[str]]:
    """Return the sentences that refuse, and those that do not."""
    verdicts = {verdict for verdict, _ in found}
    if verdicts == {"tie"}:
        *others, (_, last) = found
        return [*(sentence for _, sentence in others), f"{last} A tie keeps the champion."], []
    return (
        [sentence for verdict, sentence in found if verdict == "worse"],
        [sentence for verdict, sentence in found if verdict != "worse"],
    )


def _others(question: Question, champion: str | None, baselines: Sequence[str]) -> list[str]:
    """Return the names of the predictors that the candidate is compared with on a question."""
    has_it = [name for name in baselines if name in question.per_user]
    return has_it if champion is None else [champion, *has_it]


def _unfit(
    candidate: str,
    others: Sequence[str],
    question: Question,
    config: GateConfig,
) -> list[str]:
    """Return the reasons why nothing can be decided from these numbers, if there are any."""
    per_user, metric = question.per_user, question.metric
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


def _compared(
    candidate: str,
    other: str,
    question: Question,
    config: GateConfig,
    generator: np.random.Generator,
) -> Comparison:
    difference = paired_difference(
        question.per_user[candidate],
        question.per_user[other],
        generator,
        config.num_resamples,
        config.confidence,
    )
    if difference.ci_low > 0:
        verdict: Verdict = "worse" if question.lower_is_better else "better"
    elif difference.ci_high < 0:
        verdict = "better" if question.lower_is_better else "worse"
    else:
        verdict = "tie"
    return Comparison(
        against=other,
        metric=question.metric,
        mean_difference=difference.mean,
        ci_low=difference.ci_low,
        ci_high=difference.ci_high,
        num_users=difference.num_users,
        verdict=verdict,
    )


def _sentence(
    candidate: str,
    is_champion: bool,
    comparison: Comparison,
    question: Question,
    config: GateConfig,
) -> str:
    other = "the champion" if is_champion else comparison.against
    are = {
        "better": "are better than those of",
        "worse": "are worse than those of",
        "tie": "do not differ significantly from those of",
    }[comparison.verdict]
    own_mean, other_mean = (
        float(np.nanmean(question.per_user[name])) for name in (candidate, comparison.against)
    )
    return (
        f"Its {question.about} {are} {other}: {question.metric} {own_mean:.4f} against "
        f"{other_mean:.4f}, a difference of {comparison.mean_difference:+.4f} "
        f"({config.confidence:.0%} interval {comparison.ci_low:+.4f} to {comparison.ci_high:+.4f}, "
        f"{comparison.num_users} users)."
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
