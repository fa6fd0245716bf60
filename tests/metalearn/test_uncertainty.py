"""The uncertainty finds what residuals were drawn from, and never the wrong way round."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta.config import parse, to_dict
from recmeta.metalearn.heads.uncertainty import (
    LEVELS,
    LINE_SHRINKAGE,
    SIGNS,
    Uncertainty,
    design,
    fit,
    fit_line,
    support_variance,
)
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged


def rows(seed: int, num_rows: int = 20_000) -> Float64Array:
    """Return the design of rows drawn at random, with a spread."""
    random = np.random.default_rng(seed)
    return design(
        random.uniform(1, 5, num_rows),
        (1.0, 5.0),
        random.integers(0, 30, num_rows).astype(float),
        random.integers(0, 500, num_rows).astype(float),
        random.uniform(0.5, 2, num_rows),
        random.uniform(0.3, 2, num_rows),
    )


def test_coefficients_and_intervals_are_found_again() -> None:
    truth = np.array([0.3, -0.2, -0.1, 0.25, 0.3, 0.4])
    known = rows(0)
    random = np.random.default_rng(1)
    residual = random.normal(size=len(known)) * np.exp(known @ truth / 2)
    found = fit(known, residual, np.ones(len(known)), np.arange(len(known)) % 100)
    assert found is not None
    assert [getattr(found, name) for name in SIGNS] == pytest.approx(truth, abs=0.06)
    assert found.factors == pytest.approx((0.68, 1.31, 1.70, 2.10), abs=0.05)
    fresh = rows(2)
    size = np.abs(random.normal(size=len(fresh))) * np.exp(fresh @ truth / 2)
    for level, factor in zip(LEVELS, found.factors, strict=True):
        held = (size <= factor * found.deviation(fresh)).mean()
        assert held == pytest.approx(level * 101 / 100, abs=0.015)  # 100 users: (K + 1) / K
    assert parse(Uncertainty, to_dict(found)) == found


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-0.4, 0.4), min_size=6, max_size=6), st.integers(0, 99))
def test_who_is_known_better_is_never_less_certain(truth: list[float], seed: int) -> None:
    known = rows(seed, 2_000)
    random = np.random.default_rng(seed)
    residual = random.normal(size=len(known)) * np.exp(known @ np.array(truth) / 2)
    found = fit(known, residual, np.ones(len(known)), np.arange(len(known)) % 10)
    assert found is not None
    assert found.support <= 0
    assert found.popularity <= 0
    assert found.middle >= 0
    assert found.variance >= 0
    assert (found.spread or 0) >= 0
    assert np.isfinite(found.deviation(known)).all()


def test_without_a_spread_and_with_few_rows() -> None:
    known, users = rows(0, 500), np.arange(500) % 5
    found = fit(known[:, :-1], np.ones(500), np.ones(500), users)
    assert found is not None
    assert found.spread is None
    assert found.deviation(known[:, :-1]) == pytest.approx(np.ones(500), rel=0.02)
    assert fit(known[:50], np.ones(50), np.ones(50), users[:50]) is None
    assert fit(known, np.zeros(500), np.ones(500), users) is None


def test_the_variance_of_a_support_is_shrunk_to_that_of_all_values() -> None:
    support = Ragged.from_lists([[], [0] * 2000], [[], [1.0, 5.0] * 1000])
    assert support_variance(support, 3.0, 1.5) == pytest.approx([2.25, 4.0], abs=0.01)


def test_intervals_of_few_users_hold_for_new_ones() -> None:
    """Users differ in how far off predictions are, and a handful does not show it all."""
    held = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        user = np.repeat(np.arange(20), 15)
        far = np.exp(0.5 * random.normal(size=40))
        residual = random.normal(size=300) * far[user]
        known = rows(seed, 300)
        found = fit(known, residual, np.ones(300), user)
        assert found is not None
        fresh = rows(seed + 100, 300)
        size = np.abs(random.normal(size=300)) * far[20 + user]
        held.append((size <= found.factors[1] * found.deviation(fresh)).mean())
    assert 0.785 <= np.mean(held) <= 0.87


def test_the_line_is_that_of_least_squares_never_falls_and_few_users_move_it_little() -> None:
    random = np.random.default_rng(0)
    said, weight = random.uniform(1, 5, 300), random.uniform(0.5, 2, 300)
    value = 1 + 0.7 * said + random.normal(size=300)
    expected = np.polynomial.polynomial.polyfit(said, value, 1, w=np.sqrt(weight))
    many = 10**9
    assert fit_line(said, value, weight, many) == pytest.approx(tuple(expected))
    assert fit_line(said, -said, weight, many)[1] == pytest.approx(0, abs=1e-6)
    assert fit_line(np.full(300, 3.0), value, weight, many) == (0.0, 1.0)
    # As many users as the shrinkage counts: half of the way from what was said to the line.
    intercept, slope = fit_line(said, value, weight, int(LINE_SHRINKAGE))
    assert slope == pytest.approx((1 + expected[1]) / 2)
    mean = np.average(said, weights=weight)
    on_line = expected[0] + expected[1] * mean
    assert intercept + slope * mean == pytest.approx((mean + on_line) / 2)
