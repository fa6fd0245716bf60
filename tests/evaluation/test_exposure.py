"""What lists show of the catalogue, on lists whose numbers are known."""

import numpy as np
import pytest

from recmeta.evaluation.measuring.exposure import exposure


def test_everything_alike_and_one_alone() -> None:
    known = np.arange(10)
    alike = exposure(np.full(10, 3), known)
    assert (alike.coverage, alike.gini, alike.popularity) == pytest.approx((1.0, 0.0, 0.5))
    best = exposure(np.array([0] * 9 + [7]), known)
    assert (best.coverage, best.gini, best.popularity) == pytest.approx((0.1, 0.9, 0.95))
    equally_known = exposure(np.array([0] * 9 + [7]), np.zeros(10, int))
    assert equally_known.popularity == pytest.approx(0.5)


def test_gini_is_the_mean_difference_over_twice_the_mean() -> None:
    listed = np.random.default_rng(0).integers(0, 9, 50)
    difference = np.abs(listed[:, None] - listed[None]).mean()
    assert exposure(listed, listed).gini == pytest.approx(difference / (2 * listed.mean()))


def test_no_lists_show_nothing() -> None:
    found = exposure(np.zeros(5, int), np.arange(5))
    assert np.isnan([found.coverage, found.gini, found.popularity]).all()
