"""What lists are ordered by is the sum that it is said to be, and its weights are the likeliest."""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.heads.list_head import (
    ATTRIBUTES,
    BASE,
    CHOICES,
    ITEM,
    KNOTS,
    LEARNER,
    LEARNER_WEIGHT,
    POPULARITY,
    WEIGHT,
    ListHead,
    hat,
)
from recmeta.metalearn.heads.neighbours import taken_next, taken_together
from recmeta.tasks.task_set import Ragged
from recmeta.training.lists.conditional_logit import Choices, derivatives, fitted_weights, losses
from recmeta.training.lists.parts import NEXT
from recmeta.training.lists.prior import COLUMNS as COLUMNS_OF_PRIOR
from recmeta.training.lists.prior import column_sets, prior_weights
from recmeta.training.standard_error import simplest_of_best

NUM_ITEMS = 9
NO_PROFILE = torch.zeros((1, 0), dtype=torch.int64)
COLUMNS = (POPULARITY, LEARNER, "together", "next")


@pytest.fixture(scope="module")
def head() -> ListHead:
    generator = np.random.default_rng(0)
    items = [generator.permutation(NUM_ITEMS)[:5].tolist() for _ in range(12)]
    rows = Ragged.from_lists(items, [[1.0] * 5 for _ in items])
    weights = torch.from_numpy(generator.normal(size=(len(KNOTS), 4)).astype(np.float32))
    return ListHead(
        columns=COLUMNS,
        weight_KC=weights,
        offset=0.5,
        half_life_days=7.0,
        count_I=torch.from_numpy(generator.poisson(5, NUM_ITEMS).astype(np.float32)),
        tables={
            "together": taken_together(rows, NUM_ITEMS, 4, None, 0),
            "next": taken_next(rows, NUM_ITEMS, 4, 2, 0),
        },
        centre=2.5,
        horizon=4,
    )


@pytest.fixture
def support() -> Ragged:
    return Ragged.from_lists([[2, 5, 1], [], [4]], [[5.0, 1.0, 2.5], [], [4.0]])


def expected_base(head: ListHead, items: list[int], values: list[float]) -> np.ndarray:  # type: ignore[type-arg]
    """Return one user's scores without the learner's part, number by number."""
    knots = np.log1p(KNOTS)
    weight_KC = head.weight_KC.double().numpy()
    at = np.log1p(len(items))
    weights = [np.interp(at, knots, weight_KC[:, c]) for c in range(len(COLUMNS))]
    base = weights[0] * np.log(head.count_I.double().numpy() + head.offset)
    every = torch.arange(NUM_ITEMS)
    for column, name in ((2, "together"), (3, "next")):
        evidence = np.zeros(NUM_ITEMS)
        for item, value in zip(items, values, strict=True):
            source = torch.full((NUM_ITEMS,), item)
            evidence += (value - 2.5) * head.tables[name].strength(source, every).double().numpy()
        if evidence.any():
            base += weights[column] * (evidence - evidence.mean()) / evidence.std()
    return np.asarray(base)


def test_scores_are_the_sum(head: ListHead, support: Ragged) -> None:
    settled = head.settle(head.state(support, NO_PROFILE.expand(len(support), 0)))
    for user, (items, values) in enumerate([([2, 5, 1], [5.0, 1.0, 2.5]), ([], []), ([4], [4.0])]):
        found = settled[BASE][user].numpy()
        np.testing.assert_allclose(found, expected_base(head, items, values), atol=2e-5)
        weight = np.interp(np.log1p(len(items)), np.log1p(KNOTS), head.weight_KC[:, 1].numpy())
        assert settled[LEARNER_WEIGHT][user].item() == pytest.approx(weight, abs=1e-6)
    learner_BR = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    shared = head.scores(settled, learner_BR, torch.tensor([3, 7]))
    own = head.scores(settled, learner_BR, torch.tensor([[3, 7], [3, 7], [3, 7]]))
    torch.testing.assert_close(shared, own)
    expected = settled[BASE][:, [3, 7]] + settled[LEARNER_WEIGHT] * learner_BR
    torch.testing.assert_close(shared, expected)


def test_a_user_does_not_depend_on_the_batch(head: ListHead, support: Ragged) -> None:
    together = head.settle(head.state(support, NO_PROFILE.expand(len(support), 0)))
    for user in range(3):
        alone = head.settle(head.state(support.take(np.array([user])), NO_PROFILE))
        torch.testing.assert_close(alone[BASE][0], together[BASE][user], rtol=1e-6, atol=1e-6)


def test_a_row_of_the_centres_value_is_still_a_row(head: ListHead, support: Ragged) -> None:
    state = head.state(support, NO_PROFILE.expand(len(support), 0))
    assert (state[WEIGHT][0] != 0).tolist() == [True, True, True]
    assert state[WEIGHT][1].tolist() == [0.0, 0.0, 0.0]
    assert state[ITEM][0].tolist() == [2, 5, 1]
    equal = dataclasses.replace(head, centre=None).state(
        support, NO_PROFILE.expand(len(support), 0)
    )
    assert equal[WEIGHT][0].tolist() == [1.0, 1.0, 1.0]


def test_states_of_an_earlier_version_have_no_rows(head: ListHead) -> None:
    plain = ListHead.of_popularity(2.0, head.count_I.numpy(), torch.device("cpu"))
    settled = plain.settle({"weights": torch.zeros(3, 5)})
    torch.testing.assert_close(settled[BASE], 2.0 * head.count_I.log1p().expand(3, -1))
    assert settled[LEARNER_WEIGHT].flatten().tolist() == [1.0, 1.0, 1.0]


def test_weights_are_those_of_the_knots_and_straight_between() -> None:
    at_knots = hat(torch.tensor(KNOTS))
    torch.testing.assert_close(at_knots, torch.eye(len(KNOTS), dtype=torch.float64))
    between = hat(torch.tensor([2, 5, 1000]))
    torch.testing.assert_close(between.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(
        between[:2] @ torch.tensor(KNOTS).double().log1p(),
        torch.tensor([2.0, 5.0], dtype=torch.float64).log1p(),
    )
    assert between[2].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_it_comes_back_as_it_was_saved(head: ListHead, support: Ragged) -> None:
    again = ListHead.from_saved(head.about(), head.tensors(), torch.device("cpu"))
    expected, found = (
        head.settle(head.state(support, NO_PROFILE.expand(len(support), 0))),
        again.settle(again.state(support, NO_PROFILE.expand(len(support), 0))),
    )
    assert torch.equal(found[BASE], expected[BASE])
    assert (again.half_life_days, again.horizon, again.centre) == (7.0, 4, 2.5)


def test_popularity_may_be_weighed_otherwise(head: ListHead, support: Ragged) -> None:
    flat = head.with_popularity(0.0)
    assert not flat.weight_KC[:, 0].any()
    assert torch.equal(flat.weight_KC[:, 1:], head.weight_KC[:, 1:])
    without = dataclasses.replace(head, columns=COLUMNS[1:], weight_KC=head.weight_KC[:, 1:])
    with pytest.raises(UserError, match="do not read popularity"):
        without.with_popularity(1.0)


ALONE_KC = np.array([[1.0, 0.0]] * len(KNOTS))
"""A prior of popularity alone."""


@pytest.fixture(scope="module")
def drawn() -> tuple[list[Choices], np.ndarray]:  # type: ignore[type-arg]
    """Return what 3,000 users chose out of 40 items by known weights, and these."""
    generator = np.random.default_rng(3)
    num_users, num_items = 3000, 40
    truth_KC = np.array([[1.5, 0.0], [1.2, 0.3], [1.0, 0.6], [0.6, 1.0], [0.4, 1.4]])
    found = []
    for num_rows in (0, 3, 30):
        column = {
            POPULARITY: generator.normal(size=(num_users, num_items)),
            LEARNER: 4 * generator.normal(size=(num_users, num_items)),
        }
        hat_BK = hat(torch.full((num_users,), num_rows)).numpy()
        weights = hat_BK @ truth_KC
        score = column[POPULARITY] * weights[:, :1] + column[LEARNER] * weights[:, 1:]
        # The largest of utilities with Gumbel noise is a draw from their softmax.
        chosen = (score + generator.gumbel(size=score.shape)).argmax(1)
        liked = np.arange(num_items) == chosen[:, None]
        found.append(
            Choices(
                column=column,
                hat_BK=hat_BK,
                liked_BM=liked,
                log_weight_BM=np.zeros((num_users, num_items)),
            )
        )
    return found, truth_KC


def test_the_weights_behind_choices_are_found(drawn: tuple) -> None:  # type: ignore[type-arg]
    choices, truth_KC = drawn
    found_KC = fitted_weights(choices, (POPULARITY, LEARNER), ALONE_KC)
    for knot in (0, 2, 4):  # those at which users were seen
        np.testing.assert_allclose(found_KC[knot], truth_KC[knot], atol=0.08)


def test_few_users_keep_the_prior_and_many_do_not(drawn: tuple) -> None:  # type: ignore[type-arg]
    choices, truth_KC = drawn
    prior_KC = np.array([[0.2, -2.0]] * len(KNOTS))  # 4 is a standard deviation of the learner's
    expected_KC = prior_KC / [1, 4]
    away = []
    for num_users in (1, 30, 3000):
        some = [c.of_users(np.arange(num_users)) for c in choices]
        found_KC = fitted_weights(some, (POPULARITY, LEARNER), prior_KC)
        away.append(np.abs(found_KC - expected_KC)[[0, 2, 4]].max())
        if num_users == 3000:
            np.testing.assert_allclose(found_KC[[0, 2, 4]], truth_KC[[0, 2, 4]], atol=0.1)
    assert away[0] < 0.2 * away[2]
    assert away[0] < away[1] < away[2]
    firm_KC = fitted_weights(some, (POPULARITY, LEARNER), prior_KC, strength=1e9)
    np.testing.assert_allclose(firm_KC, expected_KC, rtol=0.02)


def test_the_prior_has_weights_for_all_columns_that_lists_may_have() -> None:
    for absent in ((), (NEXT,), (CHOICES,), (ATTRIBUTES,), (NEXT, CHOICES, ATTRIBUTES)):
        for columns in column_sets([name for name in COLUMNS_OF_PRIOR if name not in absent]):
            weight_KC = prior_weights(columns)
            assert weight_KC.shape == (len(KNOTS), len(columns))
            # More recent takes and a higher score of the learner speak for an item everywhere.
            assert (weight_KC[:, : columns.index(LEARNER) + 1] > 0).all()
    assert (prior_weights((POPULARITY,)) == 1).all()


def test_derivatives_are_those_of_the_loss(drawn: tuple) -> None:  # type: ignore[type-arg]
    choices = drawn[0][1].of_users(np.arange(20))
    design = np.stack([choices.column[POPULARITY], choices.column[LEARNER]], -1)
    weight_KC = np.random.default_rng(0).normal(size=(len(KNOTS), 2))

    def loss(moved_P: np.ndarray) -> float:  # type: ignore[type-arg]
        moved_KC = weight_KC + moved_P.reshape(weight_KC.shape)
        return float(losses(design, choices, moved_KC)[0].mean())

    slope_P, curve_PP = derivatives(design, choices, weight_KC)
    step = 1e-4
    for place in range(weight_KC.size):
        unit = step * np.eye(weight_KC.size)[place]
        assert (loss(unit) - loss(-unit)) / (2 * step) == pytest.approx(slope_P[place], abs=1e-6)
        curve = (loss(unit) - 2 * loss(0 * unit) + loss(-unit)) / step**2
        assert curve == pytest.approx(curve_PP[place, place], abs=1e-4)


def test_a_sample_that_stands_for_others_gives_the_same_weights(drawn: tuple) -> None:  # type: ignore[type-arg]
    choices = drawn[0]
    doubled = [
        dataclasses.replace(
            c,
            column={name: np.repeat(v, 2, 1) for name, v in c.column.items()},
            liked_BM=np.repeat(c.liked_BM, 2, 1) & (np.arange(80) % 2 == 0),
            log_weight_BM=np.where(np.arange(80) % 2 == 0, 0.0, -np.inf) + np.zeros((3000, 1)),
        )
        for c in choices
    ]
    halves = [
        dataclasses.replace(
            c, log_weight_BM=c.log_weight_BM + np.where(np.arange(80) % 2, np.log(0.5), np.log(0.5))
        )
        for c in (dataclasses.replace(d, log_weight_BM=np.zeros((3000, 80))) for d in doubled)
    ]
    expected = fitted_weights(choices, (POPULARITY, LEARNER), ALONE_KC)
    np.testing.assert_allclose(
        fitted_weights(doubled, (POPULARITY, LEARNER), ALONE_KC), expected, atol=1e-6
    )
    np.testing.assert_allclose(
        fitted_weights(halves, (POPULARITY, LEARNER), ALONE_KC), expected, atol=1e-6
    )


def test_the_simpler_of_equals_stays() -> None:
    best = np.zeros(100)
    slightly = np.tile([0.2, -0.18], 50)
    clearly = np.full(100, 0.2) + 0.01 * np.arange(100)
    assert simplest_of_best([slightly, best]) == 0
    assert simplest_of_best([clearly, best]) == 1


def test_popularity_is_lowered_the_more_the_more_rows_there_are(head: ListHead) -> None:
    lowered = head.with_popularity_share(0.25)
    before_KC, after_KC = head.weight_KC.numpy(), lowered.weight_KC.numpy()
    share_K = 0.25 ** (np.log1p(KNOTS) / np.log1p(KNOTS[-1]))
    np.testing.assert_allclose(after_KC[:, 0], before_KC[:, 0] * share_K, rtol=1e-5)
    assert share_K[[0, -1]].tolist() == [1.0, 0.25]
    np.testing.assert_array_equal(after_KC[:, 1:], before_KC[:, 1:])
    np.testing.assert_array_equal(head.with_popularity_share(1.0).weight_KC.numpy(), before_KC)
