"""What lists show of the catalogue, on lists whose numbers are known."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from recmeta.evaluation.comparison.jackknife import jackknife_interval
from recmeta.evaluation.measuring.exposure import exposure
from recmeta.evaluation.metric import TopLists
from recmeta.evaluation.metrics.exposure.coverage import coverage
from recmeta.evaluation.metrics.exposure.list_difference import list_difference


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


def lists_of(item_UK: list[list[int]], num_items: int = 10) -> TopLists:
    return TopLists(np.array(item_UK, np.int32), num_items, None)


def test_lists_differ_by_what_two_users_do_not_share() -> None:
    assert list_difference(lists_of([[0, 1], [1, 0], [0, 1]])) == pytest.approx(0.0)
    assert list_difference(lists_of([[0, 1], [2, 3], [4, 5]])) == pytest.approx(1.0)
    assert list_difference(lists_of([[0, 1], [1, 2], [4, 5]])) == pytest.approx((0.5 + 1 + 1) / 3)
    assert np.isnan(list_difference(lists_of([[0, 1], [-1, -1]])))
    drawn = np.argsort(np.random.default_rng(0).random((30, 12)), axis=1)[:, :5]
    pairs = [1 - len({*a} & {*b}) / 5 for a, b in itertools.combinations(drawn.tolist(), 2)]
    assert list_difference(lists_of(drawn.tolist(), 12)) == pytest.approx(np.mean(pairs))


def test_a_jackknife_of_a_mean_is_the_interval_of_the_mean() -> None:
    """Of a mean over 20 users, a group each, it is Student's interval."""
    value = np.random.default_rng(1).integers(0, 10, 20)
    found = jackknife_interval(
        lists_of(value[:, None].tolist()), lambda lists: float(lists.item_UK.mean())
    )
    reach = 2.0930 * value.std(ddof=1) / np.sqrt(20)
    assert found.mean == pytest.approx(value.mean())
    assert (found.ci_low, found.ci_high) == pytest.approx(
        (value.mean() - reach, value.mean() + reach), abs=1e-3
    )
    alone = jackknife_interval(lists_of([[1, 2]]), lambda lists: coverage(lists.listed_I))
    assert alone.mean == pytest.approx(0.2)
    assert np.isnan(alone.ci_low)


@pytest.mark.parametrize("of", [list_difference, lambda lists: coverage(lists.listed_I)])
def test_a_jackknifes_spread_is_that_of_other_users(of: Callable[[TopLists], float]) -> None:
    """Users drawn anew vary by what the interval of one draw says, within a third."""
    generator = np.random.default_rng(2)
    chance = generator.dirichlet(np.full(60, 0.3))

    def draw() -> TopLists:
        item_UK = np.argsort(generator.gumbel(size=(100, 60)) + np.log(chance + 1e-9), axis=1)
        return TopLists(item_UK[:, :-6:-1], 60, None)

    spread = np.std([of(draw()) for _ in range(200)])
    found = [jackknife_interval(draw(), of) for _ in range(20)]
    told = np.mean([(i.ci_high - i.ci_low) / (2 * 2.093) for i in found])
    assert 2 / 3 < told / spread < 3 / 2
