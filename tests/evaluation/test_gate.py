import json

import numpy as np
import pytest

from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.evaluation.comparison.gate import GateConfig, GateDecision, Question, decide
from recmeta.tasks.arrays import Float64Array

U = 200
BASE = np.random.default_rng(0).normal(0.8, 0.3, U)


def mae_around(difference: float, seed: int) -> Float64Array:
    noise = np.random.default_rng(seed).normal(0, 0.05, U)
    return BASE + difference + noise - noise.mean()


def of_ratings(per_user: dict[str, Float64Array], lower_is_better: bool = True) -> list[Question]:
    return [
        Question(
            about="predicted ratings",
            metric="mae",
            lower_is_better=lower_is_better,
            per_user=per_user,
        )
    ]


def gate(
    champion: str | None = None,
    baselines: tuple[str, ...] = ("mf-fold-in",),
    config: GateConfig | None = None,
    lower_is_better: bool = True,
    **others: Float64Array,
) -> GateDecision:
    per_user = {"maml": BASE, **{k.replace("_", "-"): v for k, v in others.items()}}
    return decide(
        "maml",
        champion,
        of_ratings(per_user, lower_is_better),
        baselines,
        config or GateConfig(),
        np.random.default_rng(0),
    )


def test_the_first_model_that_beats_the_baselines_is_promoted() -> None:
    decision = gate(mf_fold_in=mae_around(0.05, 1))
    assert decision.promoted
    assert decision.comparisons[0].verdict == "better"
    assert decision.comparisons[0].mean_difference == pytest.approx(-0.05)
    assert decision.reasons[0].startswith(
        "Its predicted ratings are better than those of mf-fold-in: mae "
    )
    assert decision.reasons[-1] == "There is no champion yet to compare with."


@pytest.mark.parametrize(
    ("difference", "promoted", "verdict"),
    [(0.05, True, "better"), (0.0, False, "tie"), (-0.05, False, "worse")],
)
def test_only_a_better_candidate_replaces_the_champion(
    difference: float, promoted: bool, verdict: str
) -> None:
    decision = gate(
        "melu", champion_is=BASE, melu=mae_around(difference, 2), mf_fold_in=mae_around(0.1, 1)
    )
    assert decision.promoted is promoted
    assert decision.comparisons[0].verdict == verdict
    assert decision.beaten_by == ()
    assert "the champion" in decision.reasons[0]
    assert ("A tie keeps the champion." in decision.reasons[0]) == (verdict == "tie")


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_same_model_again_is_a_tie(lower_is_better: bool) -> None:
    worse = mae_around(0.1 if lower_is_better else -0.1, 1)
    decision = gate("melu", lower_is_better=lower_is_better, melu=BASE.copy(), mf_fold_in=worse)
    assert not decision.promoted
    same = decision.comparisons[0]
    assert (same.verdict, same.ci_low, same.ci_high) == ("tie", 0, 0)


def test_a_reason_is_a_whole_sentence_with_its_numbers() -> None:
    exact = np.full(U, 0.5)
    decision = decide(
        "maml",
        "melu",
        of_ratings({"maml": exact, "melu": exact + 0.25, "mf": exact - 0.125}),
        ["mf"],
        GateConfig(confidence=0.9),
        np.random.default_rng(0),
    )
    assert decision.reasons == (
        "Its predicted ratings are worse than those of mf: mae 0.5000 against 0.3750, a difference "
        "of +0.1250 (90% interval +0.1250 to +0.1250, 200 users).",
        "Its predicted ratings are better than those of the champion: mae 0.5000 against 0.7500, a "
        "difference of -0.2500 (90% interval -0.2500 to -0.2500, 200 users).",
    )
    assert [c.against for c in decision.comparisons] == ["melu", "mf"]


def test_more_confidence_is_a_wider_interval() -> None:
    widths = []
    for confidence in (0.5, 0.95, 0.999):
        decision = gate(config=GateConfig(confidence=confidence), mf_fold_in=mae_around(0.0, 1))
        widths.append(decision.comparisons[0].ci_high - decision.comparisons[0].ci_low)
    assert widths == sorted(set(widths))


def test_losing_to_one_baseline_refuses() -> None:
    decision = gate(
        "melu",
        ("item-mean", "mf-fold-in"),
        melu=mae_around(0.1, 2),
        item_mean=mae_around(0.1, 3),
        mf_fold_in=mae_around(-0.05, 1),
    )
    assert not decision.promoted
    assert decision.beaten_by == ("mf-fold-in",)
    assert decision.reasons[0].startswith(
        "Its predicted ratings are worse than those of mf-fold-in"
    )
    json.dumps(to_dict(decision), allow_nan=False)


def test_a_tie_with_a_baseline_is_allowed_and_said() -> None:
    decision = gate(mf_fold_in=mae_around(0.0, 1))
    assert decision.promoted
    assert "do not differ significantly from those of mf-fold-in" in decision.reasons[0]


def test_higher_may_be_better() -> None:
    assert not gate(lower_is_better=False, mf_fold_in=mae_around(0.05, 1)).promoted
    assert gate(lower_is_better=False, mf_fold_in=mae_around(-0.05, 1)).promoted


def test_what_cannot_be_judged_is_refused() -> None:
    better = mae_around(0.05, 1)
    infinite, missing = better.copy(), better.copy()
    infinite[3], missing[:7] = np.inf, np.nan
    for other, words in (
        (infinite, "not finite"),
        (missing, "different users (7 of 200"),
        (better[:100], "must be the same"),
    ):
        decision = gate(mf_fold_in=other)
        assert not decision.promoted
        assert words in decision.reasons[0]
        assert decision.comparisons == ()
        assert decision.beaten_by == ()


def test_everything_that_stands_against_judging_is_said() -> None:
    own, infinite = BASE.copy(), mae_around(0.05, 1)
    own[[3, 5]], infinite[7] = np.inf, -np.inf
    decision = decide(
        "maml",
        None,
        of_ratings({"maml": own, "short": BASE[:100], "infinite": infinite}),
        ["short", "infinite"],
        GateConfig(min_users=199),
        np.random.default_rng(0),
    )
    assert decision.reasons == (
        "The candidate's mae is not finite for 2 of 200 users.",
        "Only 198 held-out users have a mae by the candidate; at least 199 are needed to decide.",
        "The candidate was evaluated on 200 users and short on 100: they must be the same.",
        "The mae of infinite is not finite for some users.",
    )


@pytest.mark.parametrize(("min_users", "promoted"), [(199, True), (200, True), (201, False)])
def test_as_many_users_as_are_needed_decide_and_one_fewer_does_not(
    min_users: int, promoted: bool
) -> None:
    decision = gate(config=GateConfig(min_users=min_users), mf_fold_in=mae_around(0.05, 1))
    assert decision.promoted is promoted
    assert ("Only 200 held-out users" in decision.reasons[0]) is not promoted


def test_users_that_nobody_has_a_metric_for_are_left_out() -> None:
    hole = np.where(np.arange(U) < 50, np.nan, 0.0)
    decision = decide(
        "maml",
        None,
        of_ratings({"maml": BASE + hole, "item-mean": mae_around(0.05, 1) + hole}),
        ["item-mean"],
        GateConfig(),
        np.random.default_rng(0),
    )
    assert decision.promoted
    assert decision.comparisons[0].num_users == 150


def test_the_decision_is_a_function_of_its_inputs() -> None:
    assert gate(mf_fold_in=mae_around(0.0, 1)) == gate(mf_fold_in=mae_around(0.0, 1))


@pytest.mark.parametrize(
    ("ratings", "lists", "promoted"),
    [
        (0.05, 0.05, True),
        (0.05, 0.0, True),
        (0.0, 0.05, True),
        (0.0, 0.0, False),
        (0.05, -0.05, False),
        (-0.05, 0.05, False),
    ],
)
def test_the_champion_goes_to_who_is_better_at_one_question_and_worse_at_none(
    ratings: float, lists: float, promoted: bool
) -> None:
    """How much better the candidate is at each."""
    questions = [
        *of_ratings({"maml": BASE, "melu": mae_around(ratings, 1), "mf": mae_around(0.1, 2)}),
        Question(
            about="lists",
            metric="full_ndcg@10",
            lower_is_better=False,
            per_user={"maml": BASE, "melu": mae_around(-lists, 3), "knn": mae_around(-0.1, 4)},
        ),
    ]
    decision = decide(
        "maml", "melu", questions, ["mf", "knn"], GateConfig(), np.random.default_rng(0)
    )
    assert decision.promoted is promoted
    assert [(c.against, c.metric) for c in decision.comparisons] == [
        ("melu", "mae"),
        ("mf", "mae"),
        ("melu", "full_ndcg@10"),
        ("knn", "full_ndcg@10"),
    ]
    is_tie = ratings == lists == 0.0
    assert ("A tie keeps the champion." in decision.reasons[1]) is is_tie
    if is_tie:
        assert decision.reasons[0].startswith(
            "Its predicted ratings do not differ significantly from"
        )
        assert decision.reasons[1].startswith(
            "Its lists do not differ significantly from those of the champion"
        )


def test_worse_lists_than_a_baselines_refuse_however_well_ratings_are_predicted() -> None:
    questions = [
        *of_ratings({"maml": BASE, "knn": mae_around(0.1, 1)}),
        Question(
            about="lists",
            metric="full_ndcg@10",
            lower_is_better=False,
            per_user={"maml": BASE, "knn": mae_around(0.1, 2), "popularity": mae_around(0.0, 3)},
        ),
    ]
    baselines = ["knn", "popularity"]
    decision = decide("maml", None, questions, baselines, GateConfig(), np.random.default_rng(0))
    assert not decision.promoted
    assert decision.beaten_by == ("knn",)
    assert decision.reasons[0].startswith("Its lists are worse than those of knn: full_ndcg@10 0.")
    assert decision.reasons[1].startswith("Its predicted ratings are better than those of knn")
    assert len(decision.comparisons) == 3


def test_configuration_is_checked() -> None:
    for confidence in (0.0, 1.0, 1.5):
        with pytest.raises(UserError, match=f"confidence is {confidence}; it must lie between 0"):
            GateConfig(confidence=confidence)
    with pytest.raises(UserError, match="num_resamples is 0; it must be 1 or more"):
        GateConfig(num_resamples=0)
    with pytest.raises(UserError, match="min_users is 1; it must be 2 or more"):
        GateConfig(min_users=1)
    assert GateConfig(num_resamples=1, min_users=2).min_users == 2
