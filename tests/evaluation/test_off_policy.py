"""Off-policy estimates against sums that are written out, and against truths that are known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from recmeta.errors import UserError
from recmeta.evaluation.off_policy.estimate import (
    EstimatorName,
    OffPolicyConfig,
    estimate,
)
from recmeta.evaluation.off_policy.power import ab_test
from recmeta.evaluation.off_policy.reward_model import RewardModel
from recmeta.evaluation.off_policy.slates import LoggedSlates, OtherLists, importance_weights

ESTIMATORS: tuple[EstimatorName, ...] = ("ips", "snips", "dr")


def by_hand() -> tuple[LoggedSlates, OtherLists]:
    """Three slates of two places, of two users; the other policy shows items 1 and 0."""
    logged = LoggedSlates(
        user_S=np.array([0, 0, 1]),
        slate_N=np.array([0, 0, 1, 1, 2, 2]),
        place_N=np.array([0, 1, 0, 1, 0, 1]),
        item_N=np.array([0, 1, 1, 0, 1, 2]),
        propensity_N=np.array([0.5, 0.5, 0.5, 0.25, 0.5, 0.25]),
        reward_N=np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]),
        predicted_N=np.full(6, 0.5),
    )
    other = OtherLists(
        slate_T=np.array([0, 0, 1, 1, 2, 2]),
        place_T=np.array([0, 1, 0, 1, 0, 1]),
        item_T=np.array([1, 0, 1, 0, 1, 0]),
        probability_T=np.ones(6),
        predicted_T=np.full(6, 0.5),
    )
    return logged, other


def test_estimates_are_the_sums_that_they_stand_for() -> None:
    logged, other = by_hand()
    assert importance_weights(logged, other).tolist() == [0, 0, 2, 4, 2, 0]
    found = estimate(logged, other)
    assert found.logged.mean == pytest.approx(4 / 3)
    values = {name: one.value.mean for name, one in found.estimates.items()}
    assert values["ips"] == pytest.approx((2 * 1 + 4 * 1 + 2 * 0) / 3)
    assert values["snips"] == pytest.approx((2 * 1 + 2 * 0) / 4 + 4 * 1 / 4)
    corrections = 2 * 0.5 + 4 * 0.5 + 2 * -0.5
    assert values["dr"] == pytest.approx((6 * 0.5 + corrections) / 3)
    assert found.estimates["ips"].difference.mean == pytest.approx(2 - 4 / 3)
    assert found.effective_rows == pytest.approx(8**2 / (4 + 16 + 4))
    assert found.overlap.mean == pytest.approx(8 / 6)
    assert found.largest_share == pytest.approx(6 / 8)
    assert (found.num_users, found.num_slates, found.num_rows, found.num_matched) == (2, 3, 6, 3)
    assert any("rest on as much as 2.7 places" in said for said in found.warnings)
    assert any("One user has 75%" in said for said in found.warnings)


def test_the_policy_that_served_earns_what_it_earned() -> None:
    logged, _ = simulated(np.random.default_rng(0), num_users=400)
    num_slates, num_items = len(logged.user_S), len(CHANCES)
    same = OtherLists(
        slate_T=np.repeat(np.arange(num_slates), 2 * num_items),
        place_T=np.tile(np.repeat([0, 1], num_items), num_slates),
        item_T=np.tile(np.arange(num_items), 2 * num_slates),
        probability_T=np.tile(CHANCES, 2 * num_slates),
    )
    found = estimate(logged, same)
    for name in ESTIMATORS:
        assert found.estimates[name].value.mean == pytest.approx(found.logged.mean, abs=0.01)
    assert found.estimates["ips"].difference.ci_high == pytest.approx(0, abs=1e-12)
    assert found.effective_rows == pytest.approx(found.num_rows)
    assert found.overlap.mean == pytest.approx(1)
    assert found.warnings == ()


CHANCES = np.arange(6, 0, -1) / 21
"""How likely each item is to be served at any place: the less, the more it earns."""


def simulated(
    random: np.random.Generator, num_users: int, num_places: int = 2
) -> tuple[LoggedSlates, OtherLists]:
    """Lists drawn place by place with logged propensities, and a policy that always shows the items
    that earn most; a place earns rate[item] · 1 / (1 + place)."""
    slates = random.integers(1, 4, num_users)
    user_S = np.repeat(np.arange(num_users), slates)
    num_items = len(CHANCES)
    shape = (len(user_S), num_places)
    item_SJ = random.choice(num_items, size=shape, p=CHANCES)
    rate_I = np.linspace(0.1, 0.8, num_items)
    place_SJ = np.broadcast_to(np.arange(num_places), shape)
    reward_SJ = random.random(shape) < rate_I[item_SJ] / (1 + place_SJ)
    slate_SJ = np.broadcast_to(np.arange(len(user_S))[:, None], shape)
    logged = LoggedSlates(
        user_S=user_S,
        slate_N=slate_SJ.ravel(),
        place_N=place_SJ.ravel(),
        item_N=item_SJ.ravel(),
        propensity_N=CHANCES[item_SJ].ravel(),
        reward_N=reward_SJ.ravel().astype(float),
    )
    best_SJ = num_items - 1 - place_SJ
    other = OtherLists(
        slate_T=slate_SJ.ravel(),
        place_T=place_SJ.ravel(),
        item_T=best_SJ.ravel(),
        probability_T=np.ones(best_SJ.size),
    )
    return logged, other


TRUTH = 0.8 + 0.66 / 2
"""What a list of the policy in `simulated` earns on average."""


def test_estimates_are_near_the_truth_on_a_large_log() -> None:
    logged, other = simulated(np.random.default_rng(1), num_users=20_000)
    found = estimate(logged, other, OffPolicyConfig(num_resamples=200))
    for name in ESTIMATORS:
        value = found.estimates[name].value
        assert value.ci_low < TRUTH < value.ci_high, name
        assert value.ci_high - value.ci_low < 0.15, name
    assert found.overlap.ci_low < 1 < found.overlap.ci_high
    assert found.warnings == ()


def test_a_user_drawn_twice_is_no_news() -> None:
    """Slates of one user are not independent: copies of them leave the intervals as wide."""
    logged, other = simulated(np.random.default_rng(2), num_users=200)
    num_slates, num_rows = len(logged.user_S), len(logged.slate_N)
    twice = dataclasses.replace(
        logged,
        user_S=np.tile(logged.user_S, 2),
        slate_N=np.concatenate([logged.slate_N, logged.slate_N + num_slates]),
        **{
            name: np.tile(getattr(logged, name), 2)
            for name in ("place_N", "item_N", "propensity_N", "reward_N")
        },
    )
    assert len(twice.slate_N) == 2 * num_rows
    of_both = OtherLists(
        slate_T=np.concatenate([other.slate_T, other.slate_T + num_slates]),
        place_T=np.tile(other.place_T, 2),
        item_T=np.tile(other.item_T, 2),
        probability_T=np.tile(other.probability_T, 2),
    )
    one, two = estimate(logged, other), estimate(twice, of_both)
    for name in ESTIMATORS:
        once, again = one.estimates[name].value, two.estimates[name].value
        width = once.ci_high - once.ci_low  # of DR nearly: its model reads every row
        assert again.ci_high - again.ci_low == pytest.approx(width, rel=0.02), name


def test_what_the_log_cannot_show_is_warned_of() -> None:
    logged, other = simulated(np.random.default_rng(3), num_users=2_000)
    kept = logged.item_N != 5  # as if the best item had never been served
    silent = dataclasses.replace(
        logged,
        **{
            name: getattr(logged, name)[kept]
            for name in ("slate_N", "place_N", "item_N", "propensity_N", "reward_N")
        },
    )
    found = estimate(silent, other)
    assert found.overlap.ci_high < 0.6
    assert "left out of IPS" in found.warnings[0]
    assert np.isnan(found.estimates["snips"].value.mean), "place 1 has no weight"
    nothing = estimate(dataclasses.replace(silent, item_N=np.full(len(silent.item_N), 99)), other)
    assert nothing.estimates["ips"].value.mean == 0
    assert nothing.warnings[0].startswith("The other policy never")


def test_a_model_of_rewards_draws_rare_items_to_the_mean() -> None:
    random = np.random.default_rng(0)
    count_I = np.array([1, 1000, *random.integers(5, 300, 60)])
    item_N = np.repeat(np.arange(len(count_I)), count_I)
    effect_I = random.normal(0, 0.5, len(count_I))
    effect_I[:2] = 1.0
    reward_N = 2 + effect_I[item_N] + random.normal(0, 1, len(item_N))
    place_N = np.zeros(len(item_N), np.int64)
    model = RewardModel.fit(place_N, item_N, reward_N, 1, len(count_I))
    means_I = np.bincount(item_N, reward_N - model.of_place_J[0]) / count_I
    kept_I = model.of_item_I / means_I
    assert kept_I[0] == pytest.approx(0.25 / 1.25, abs=0.06), "τ² / (τ² + σ² / n), one row"
    assert kept_I[1] > 0.99
    empty = RewardModel.fit(place_N[:0], item_N[:0], reward_N[:0], 1, 3)
    assert empty.predict(np.zeros(3, np.int64), np.arange(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_size_of_a_test_of_rates_is_that_of_the_textbook(share: float) -> None:
    found = ab_test(rate=0.1, effect=0.02, users_per_day=500, treatment_share=share)
    # Fleiss, Levin and Paik, equation 4.19, for the smaller group and its ratio to the larger.
    first, second = 0.1, 0.12
    ratio = (1 - share) / share  # control over treatment
    mean = (ratio * first + second) / (1 + ratio)
    z_level, z_power = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    root = z_level * np.sqrt((ratio + 1) * mean * (1 - mean))
    root += z_power * np.sqrt(first * (1 - first) + ratio * second * (1 - second))
    treated = root**2 / (ratio * 0.02**2)
    assert found.users_in_treatment == int(np.ceil(treated))
    assert found.users_in_control == int(np.ceil(treated * ratio))
    assert found.days == int(np.ceil(found.users / 500))
    assert 0.8 <= found.power < 0.801


def test_tests_of_that_size_see_the_effect_as_often_as_they_say() -> None:
    found = ab_test(rate=0.2, effect=-0.04, users_per_day=1, power=0.9, level=0.1)
    random, num_tests = np.random.default_rng(0), 20_000
    control = random.binomial(found.users_in_control, 0.2, num_tests)
    treated = random.binomial(found.users_in_treatment, 0.16, num_tests)
    rates = control / found.users_in_control, treated / found.users_in_treatment
    pooled = (control + treated) / found.users
    error = np.sqrt(
        pooled * (1 - pooled) * (1 / found.users_in_control + 1 / found.users_in_treatment)
    )
    seen = np.abs(rates[1] - rates[0]) / error > stats.norm.ppf(0.95)
    assert seen.mean() == pytest.approx(0.9, abs=0.01)


def test_the_size_of_a_test_of_means() -> None:
    found = ab_test(deviation=2.0, effect=0.5, users_per_day=10)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert found.users_in_control == int(np.ceil(2 * (2.0 * z / 0.5) ** 2))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rate": 0.1, "deviation": 1.0}, "either rate"),
        ({}, "either rate"),
        ({"rate": 1.2}, "rate is 1.2"),
        ({"rate": 0.99}, "the rate would be 1.04"),
        ({"rate": 0.1, "effect": 0.0}, "effect is 0.0"),
        ({"rate": 0.1, "level": 1.0}, "level is 1.0"),
        ({"rate": 0.1, "users_per_day": 0.0}, "users_per_day is 0.0"),
        ({"deviation": -1.0}, "deviation is -1.0"),
        ({"rate": 0.1, "power": 0.01}, "above half of level"),
    ],
)
def test_a_test_that_makes_no_sense_is_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ab_test(**{"effect": 0.05, "users_per_day": 100.0, **wrong})  # type: ignore[arg-type]
