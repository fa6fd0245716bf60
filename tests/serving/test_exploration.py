"""Lists that explore: propensities against lists that are counted, and what they depend on."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.learner import HasPosterior
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.exploration.config import ExploreConfig
from recmeta.serving.exploration.drawn_lists import (
    drawn_probabilities,
    plain_choices,
    put_together,
    uniform_probabilities,
)
from recmeta.serving.exploration.explorer import Explorer
from recmeta.serving.lists import ListMaker, Lists
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.serving.rules import Rules
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import Tasks, TaskSet


def test_a_list_takes_the_first_that_is_left() -> None:
    explored = np.array([[2, 0, 3, 1]] * 4)
    explores = np.array([[False] * 3, [True] * 3, [False, True, False], [True, False, True]])
    assert put_together(explored, explores).tolist() == [
        [0, 1, 2],
        [2, 0, 3],
        [0, 2, 1],
        [2, 0, 3],
    ]
    assert plain_choices(np.array([2, 0, 3])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("num_candidates", "length", "share"), [(4, 3, 0.3), (3, 3, 0.5)])
def test_uniform_probabilities_are_those_of_all_lists_together(
    num_candidates: int, length: int, share: float
) -> None:
    """Every permutation and every choice of exploring places, each with its probability."""
    expected = np.zeros((num_candidates, length))
    orders = np.array(list(itertools.permutations(range(num_candidates))))
    for mask in itertools.product([False, True], repeat=length):
        chance = np.prod([share if explores else 1 - share for explores in mask])
        lists = put_together(orders, np.tile(mask, (len(orders), 1)))
        for place in range(length):
            counts = np.bincount(lists[:, place], minlength=num_candidates)
            expected[:, place] += chance * counts / len(orders)
    found = uniform_probabilities(num_candidates, length, share)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(0), 1)


def test_tables_of_probabilities_are_kept_for_few_sizes_alone(
    linear: Model, task_set: TaskSet
) -> None:
    """A request chooses the size by its candidates and its length."""
    explorer = Explorer(Scorer.of(linear), ExploreConfig(by="uniform"))
    for count in range(2, 200):
        shown, chance = explorer._uniform_list(count, 2, np.random.default_rng(count))
        table = uniform_probabilities(count, 2, explorer.config.share)
        assert chance.tolist() == table[shown, [0, 1]].tolist()
    assert explorer._uniform.cache_info().currsize <= 64


def test_reciprocals_of_drawn_probabilities_have_the_expectation_that_is_stated() -> None:
    random, draws = np.random.default_rng(0), 20
    for chance in (0.5, 0.05):
        times = random.random((40_000, draws)) < chance
        found = [drawn_probabilities(np.array([1]), row[:, None] * 1)[0] for row in times[:4_000]]
        several = (1 + times.sum(1)) / (1 + draws)
        assert np.allclose(found, several[:4_000])
        wanted = (1 - (1 - chance) ** (draws + 1)) / chance
        assert (1 / several).mean() == pytest.approx(wanted, rel=0.02)


@pytest.fixture(scope="session")
def linear(task_set: TaskSet) -> Model:
    config = ModelConfig(
        algorithm="bayesian-linear",
        learner=BayesianLinearConfig(num_factors=4),
    )
    model = Model.untrained(config, task_set, torch.device("cpu"))
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        episodes=EpisodeConfig(),
        config=TrainingConfig(epochs=2),
        seed=0,
    )
    return model


def lists_of(model: Model, tasks: Tasks, top_k: int | None = None, **explore: object) -> Lists:
    config = ExploreConfig(**{"candidates": 12, "draws": 200, **explore})  # type: ignore[arg-type]
    scorer = Scorer.of(model)
    maker = ListMaker(scorer, ScoringConfig(top_k=5, explore=config, reasons=False))
    return maker.make(adapt_users(scorer, tasks), tasks, top_k)


@pytest.mark.parametrize("by", ["thompson", "uniform"])
def test_propensities_are_how_often_an_item_is_there(
    linear: Model, task_set: TaskSet, by: str
) -> None:
    """One user under many names: what each list says of its items is how often they come."""
    one, num_lists = task_set.tasks("test").with_shots(2), 600
    same = one.take(np.zeros(num_lists, np.int64))
    config = ExploreConfig(candidates=12, draws=200, by=by, share=0.5)  # type: ignore[arg-type]
    scorer = Scorer.of(linear)
    maker = ListMaker(scorer, ScoringConfig(top_k=5, explore=config, reasons=False))
    lists = maker.make(adapt_users(scorer, same), same, names=[str(n) for n in range(num_lists)])
    item_Dk, propensity_Dk = lists.item_Bk, lists.propensity_Bk
    for place in range(5):
        for item in np.unique(item_Dk[:, place]):
            here = item_Dk[:, place] == item
            said, often = propensity_Dk[here, place].mean(), here.mean()
            assert said == pytest.approx(often, abs=5 * np.sqrt(often / num_lists) + 0.01)
            if by == "uniform":  # exact: the same in every list
                assert np.ptp(propensity_Dk[here, place]) == 0
    assert 0.1 < lists.is_explored_Bk.mean() < 0.5
    # An unbiased weight: the number of places where some item stands, over its propensity.
    first = item_Dk[0]
    weight_D = ((item_Dk == first) / propensity_Dk).sum(1)
    assert weight_D.mean() == pytest.approx(5, abs=4 * weight_D.std() / np.sqrt(num_lists) + 0.1)


def test_lists_depend_on_the_seed_the_name_and_what_is_known(
    linear: Model, task_set: TaskSet
) -> None:
    tasks = task_set.tasks("test").with_shots(3)
    whole = lists_of(linear, tasks, share=0.6)
    again = lists_of(linear, tasks, share=0.6)
    assert (whole.item_Bk == again.item_Bk).all()
    some = np.array([3, 1])
    alone = lists_of(linear, tasks.take(some), share=0.6)
    assert (alone.item_Bk == whole.item_Bk[some]).all()
    np.testing.assert_array_equal(alone.propensity_Bk, whole.propensity_Bk[some])
    shorter = lists_of(linear, tasks, 2, share=0.6)
    assert (shorter.item_Bk == whole.item_Bk[:, :2]).all()
    np.testing.assert_array_equal(shorter.propensity_Bk, whole.propensity_Bk[:, :2])
    assert (lists_of(linear, tasks, share=0.6, seed=1).item_Bk != whole.item_Bk).any()
    config = ScoringConfig(top_k=5, explore=ExploreConfig(share=0.6), reasons=False)
    scorer = Scorer.of(linear)
    maker, users = ListMaker(scorer, config), adapt_users(scorer, tasks)
    renamed = maker.make(users, tasks, names=["somebody else"] * len(tasks))
    assert (renamed.item_Bk != maker.make(users, tasks).item_Bk).any()
    assert (renamed.item_Bk[:, 0] >= 0).all()


def test_users_of_whom_much_is_known_get_the_plain_list(linear: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test")
    scorer = Scorer.of(linear)
    plain = ListMaker(scorer, ScoringConfig(top_k=5, reasons=False))
    lists = plain.make(adapt_users(scorer, tasks), tasks)
    assert (lists.propensity_Bk == 1).all()
    most = int(np.median(tasks.support.lengths))
    found = lists_of(linear, tasks, share=0.9, most_interactions=most)
    known_B = tasks.support.lengths > most
    assert known_B.any()
    assert (found.item_Bk[known_B] == lists.item_Bk[known_B]).all()
    assert (found.propensity_Bk[known_B] == 1).all()
    assert not found.is_explored_Bk[known_B].any()
    assert (found.propensity_Bk[~known_B] < 1).all()
    none = lists_of(linear, tasks, share=0.0)
    assert (none.item_Bk == lists.item_Bk).all()
    assert (none.propensity_Bk == 1).all()


def test_an_explored_list_is_a_list(linear: Model, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test").with_shots(2)
    found = lists_of(linear, tasks, share=0.9, candidates=29)
    for user, items in enumerate(found.item_Bk):
        assert len(set(items.tolist())) == 5
        seen = tasks.support.item[tasks.support.task == user]
        assert not np.isin(items, seen).any()
    # 26 to 28 items are left: a list that wants all of them ends with the catalogue.
    scorer = Scorer.of(linear)
    config = ScoringConfig(top_k=30, explore=ExploreConfig(share=0.5, draws=50), reasons=False)
    whole = ListMaker(scorer, config).make(adapt_users(scorer, tasks), tasks)
    filled = whole.item_Bk >= 0
    assert (filled.sum(1) == 30 - tasks.support.lengths).all()
    assert np.isnan(whole.propensity_Bk[~filled]).all()
    assert (whole.propensity_Bk[filled] > 0).all()


def test_a_draw_moves_items_as_far_as_the_posterior_says(linear: Model, task_set: TaskSet) -> None:
    """The variance of a draw is that of the linear function of the weights, and it falls with every
    row; scaled to the calibrated deviation where there is one."""
    scorer, tasks = Scorer.of(linear), task_set.tasks("test")
    explorer = Explorer(scorer, ExploreConfig())
    candidate_Bm = np.tile(np.arange(10), (len(tasks), 1))
    unknown_Bm = np.full(candidate_Bm.shape, np.nan, np.float32)
    rows = scorer.rows_of_now(candidate_Bm)
    assert isinstance(linear.learner, HasPosterior)
    _, design_BmW, _ = linear.learner.linear_parts(linear.params, rows)
    variances = []
    for num_shots in (0, 2, 100):
        users = adapt_users(scorer, tasks.with_shots(num_shots))
        whitener_BWW = users.state["whitener"]
        covariance_BWW = whitener_BWW.mT @ whitener_BWW
        expected_Bm = torch.einsum("bmw,bwv,bmv->bm", design_BmW, covariance_BWW, design_BmW)
        move_BWm = explorer._moves(users, candidate_Bm, unknown_Bm)
        np.testing.assert_allclose((move_BWm**2).sum(1), expected_Bm.numpy(), rtol=1e-3)
        variances.append(move_BWm.var(1).mean())
        own_Bm = scorer.predict(users.state, rows).spread_BR
        assert own_Bm is not None
        twice_Bm = 2 * own_Bm.numpy() * linear.units.scale
        doubled = explorer._moves(users, candidate_Bm, twice_Bm)
        np.testing.assert_allclose(doubled, 2 * move_BWm, rtol=1e-5)
    assert variances[0] > variances[1] > variances[2] > 0


def test_what_cannot_be_explored_is_refused(model: Model, linear: Model) -> None:
    explore = ExploreConfig()
    with pytest.raises(UserError, match="no posterior to draw from: set it to 'uniform'"):
        ListMaker(Scorer.of(model), ScoringConfig(explore=explore))
    uniform = dataclasses.replace(explore, by="uniform")
    ListMaker(Scorer.of(model), ScoringConfig(explore=uniform))
    with pytest.raises(UserError, match="explore is set together with diversity"):
        ScoringConfig(explore=explore, rules=Rules(diversity=0.5))
    with pytest.raises(UserError, match=r"explore\.share is 1\.5"):
        ExploreConfig(share=1.5)
    with pytest.raises(UserError, match=r"explore\.draws is 0"):
        ExploreConfig(draws=0)
