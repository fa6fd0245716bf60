import json

import numpy as np
import pytest

from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.evaluation.comparison.gate import GateConfig, GateDecision, decide
from recmeta.tasks.arrays import Float64Array

U = 200
BASE = np.random.default_rng(0).normal(0.8, 0.3, U)


def mae_around(difference: float, seed: int) -> Float64Array:
    noise = np.random.default_rng(seed).normal(0, 0.05, U)
    return BASE + difference + noise - noise.mean()


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
        per_user,
        baselines,
        "mae",
        lower_is_better,
        config or GateConfig(),
        np.random.default_rng(0),
    )


def test_the_first_model_that_beats_the_baselines_is_promoted() -> None:
    decision = gate(mf_fold_in=mae_around(0.05, 1))
    assert decision.promoted
    assert decision.comparisons[0].verdict == "better"
    assert decision.comparisons[0].mean_difference == pytest.approx(-0.05)
    assert decision.reasons[0].startswith("Better than mf-fold-in: mae ")
    assert "no champion yet" in decision.reasons[-1]


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


def test_the_same_model_again_is_a_tie() -> None:
    assert not gate("melu", melu=BASE.copy(), mf_fold_in=mae_around(0.1, 1)).promoted


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
    assert decision.reasons[0].startswith("Worse than mf-fold-in")
    json.dumps(to_dict(decision), allow_nan=False)


def test_a_tie_with_a_baseline_is_allowed_and_said() -> None:
    decision = gate(mf_fold_in=mae_around(0.0, 1))
    assert decision.promoted
    assert any(r.startswith("Not distinguishable from mf-fold-in") for r in decision.reasons)


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
    few = gate(config=GateConfig(min_users=201), mf_fold_in=better)
    assert not few.promoted
    assert "Only 200 held-out users" in few.reasons[0]


def test_users_that_nobody_has_a_metric_for_are_left_out() -> None:
    hole = np.where(np.arange(U) < 50, np.nan, 0.0)
    decision = decide(
        "maml",
        None,
        {"maml": BASE + hole, "item-mean": mae_around(0.05, 1) + hole},
        ["item-mean"],
        "mae",
        True,
        GateConfig(),
        np.random.default_rng(0),
    )
    assert decision.promoted
    assert decision.comparisons[0].num_users == 150


def test_the_decision_is_a_function_of_its_inputs() -> None:
    assert gate(mf_fold_in=mae_around(0.0, 1)) == gate(mf_fold_in=mae_around(0.0, 1))


def test_configuration_is_checked() -> None:
    with pytest.raises(UserError, match=r"confidence is 1.5"):
        GateConfig(confidence=1.5)
