import math

import numpy as np
import pytest

from recmeta.evaluation.comparison import bootstrap
from recmeta.evaluation.comparison.bootstrap import mean_intervals, paired_difference


def test_interval_agrees_with_the_normal_theory() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    (found,) = mean_intervals(values[:, None], np.random.default_rng(1), 4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.ci_low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.ci_high == pytest.approx(values.mean() + half, abs=0.03)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    samples = rng.exponential(1.0, (60, 300))  # 300 samples of 60 users
    found = mean_intervals(samples, rng, 1000, confidence=0.9)
    covered = np.mean([i.ci_low <= 1.0 <= i.ci_high for i in found])
    assert 0.82 <= covered <= 0.94


def test_missing_users_are_left_out_and_counted() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, np.nan, 2.0], [np.nan, np.nan, np.inf]])
    some, none, infinite = mean_intervals(values, np.random.default_rng(0), 200)
    assert (some.mean, some.num_users) == (2.0, 2)
    assert 1.0 <= some.ci_low <= some.ci_high <= 3.0
    assert none.num_users == 0
    assert math.isnan(none.mean)
    assert infinite.mean == math.inf
    assert math.isnan(infinite.ci_low)


def test_same_seed_same_interval_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    whole = mean_intervals(values, np.random.default_rng(7), 300)
    monkeypatch.setattr(bootstrap, "MAX_DRAWS", 1000)
    for one, other in zip(
        whole, mean_intervals(values, np.random.default_rng(7), 300), strict=True
    ):
        assert one.ci_low == pytest.approx(other.ci_low, abs=1e-12)
        assert one.ci_high == pytest.approx(other.ci_high, abs=1e-12)


def test_pairing_sees_what_two_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(1.0, 0.5, 200)
    first, second = hardness, hardness + 0.02 + rng.normal(0, 0.05, 200)
    found = paired_difference(first, second, rng)
    apart = mean_intervals(np.stack([first, second], axis=1), rng)
    assert found.ci_high < 0 < apart[0].ci_high - apart[1].ci_low


def test_a_paired_difference_uses_users_with_both() -> None:
    first = np.array([1.0, 2.0, np.nan, 4.0])
    second = np.array([0.0, np.nan, 1.0, 2.0])
    found = paired_difference(first, second, np.random.default_rng(0), 100)
    assert (found.mean, found.num_users) == (1.5, 2)
    same = paired_difference(first, first, np.random.default_rng(0), 100)
    assert (same.ci_low, same.mean, same.ci_high) == (0.0, 0.0, 0.0)
