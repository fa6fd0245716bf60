"""Neighbours and lists of ratings, against plain numpy on tiny data."""

import dataclasses

import numpy as np
import pytest
from evaluation_tasks import low_rank_tasks, make_spec, make_tasks

from recmeta.errors import UserError
from recmeta.evaluation.baseline import BaselineSearch, Trial, ranking_loss
from recmeta.evaluation.baseline_parts import neighbourhood
from recmeta.evaluation.baseline_parts.lists_of_ratings import (
    BothConfig,
    ListConfig,
    ListsOfRatings,
    ValuesAndLists,
    makes_lists,
)
from recmeta.evaluation.baseline_parts.neighbourhood import KnownItems, co_occurrences, gram
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.baselines.averages.item_mean_user_bias import BiasConfig, ItemMeanUserBias
from recmeta.evaluation.baselines.item_to_item.ease import Ease, EaseConfig, residuals
from recmeta.evaluation.baselines.user_to_user import user_knn
from recmeta.evaluation.baselines.user_to_user.user_knn import UserKNN, UserKNNConfig
from recmeta.evaluation.fit_baselines import BESIDE_EVERY_MODEL, baseline
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import Ragged, Tasks

NUM_ITEMS = 12
RANGE = (1.0, 5.0)
TRAIN = low_rank_tasks(40, NUM_ITEMS, 8, 5, seed=0)
COLD = low_rank_tasks(9, NUM_ITEMS, 8, 5, seed=1)
BIASES = ItemMeanUserBias.fit(TRAIN, NUM_ITEMS, RANGE, BiasConfig())


def matrix(rows: Ragged, value_N: Float64Array) -> Float64Array:
    dense = np.zeros((len(rows), NUM_ITEMS))
    dense[rows.task, rows.item] = value_N
    return dense


def nearest(likeness_BU: Float64Array, num_neighbours: int) -> Float64Array:
    """Return the likeness with all but the largest of each row at 0."""
    kept = np.zeros_like(likeness_BU)
    for row, likeness_U in zip(kept, likeness_BU, strict=True):
        best = np.argsort(-likeness_U, kind="stable")[:num_neighbours]
        row[best] = likeness_U[best]
    return kept


def test_users_who_met_the_same_vote_for_what_else_they_met() -> None:
    kept = np.random.default_rng(0).random(len(TRAIN.query.item)) < 0.5
    train = dataclasses.replace(TRAIN, query=TRAIN.query.select(kept))
    rows = training_rows(train)
    theirs_UI = matrix(rows, np.ones(len(rows.item)))
    own_BI = matrix(COLD.support, np.ones(len(COLD.support.item)))
    both_BU = own_BI @ theirs_UI.T
    lengths = np.sqrt(own_BI.sum(1)[:, None] * theirs_UI.sum(1))
    likeness_BU = both_BU / lengths * both_BU / (both_BU + 2.5)
    (found,) = UserKNN.fit_all(train, NUM_ITEMS, [UserKNNConfig(num_neighbours=40, shrinkage=2.5)])
    np.testing.assert_allclose(found.score_items(COLD), likeness_BU @ theirs_UI, rtol=1e-5)
    assert not found.predicts_values
    # Those that are most alike, for whom it is clear which these are.
    num_clear = 0
    for few in (2, 5, 9, 15):
        last, next_one = np.sort(likeness_BU, axis=1)[:, [-few, -few - 1]].T
        clear = last > next_one + 1e-6
        (found,) = UserKNN.fit_all(
            train, NUM_ITEMS, [UserKNNConfig(num_neighbours=few, shrinkage=2.5)]
        )
        expected = nearest(likeness_BU, few) @ theirs_UI
        np.testing.assert_allclose(found.score_items(COLD)[clear], expected[clear], rtol=1e-5)
        num_clear += int(clear.sum())
    assert num_clear > 5


def with_ones(tasks: Tasks) -> Tasks:
    support, query = (
        dataclasses.replace(side, value=np.ones_like(side.value))
        for side in (tasks.support, tasks.query)
    )
    return dataclasses.replace(tasks, support=support, query=query)


def test_users_who_rated_alike_vote_with_their_residuals() -> None:
    rows = training_rows(TRAIN)
    left_UI = matrix(rows, residuals(rows, BIASES))
    rated_UI = matrix(rows, np.ones(len(rows.item)))
    own_BI = matrix(COLD.support, residuals(COLD.support, BIASES))
    has_BI = matrix(COLD.support, np.ones(len(COLD.support.item)))
    norms = np.linalg.norm(own_BI, axis=1)[:, None] * np.linalg.norm(left_UI, axis=1)
    both_BU = has_BI @ rated_UI.T
    likeness_BU = np.maximum(own_BI @ left_UI.T / norms, 0.0) * both_BU / (both_BU + 10.0)
    near_BU = nearest(likeness_BU, 6)
    voted_BI = near_BU @ left_UI / (near_BU @ rated_UI + 0.5)
    config = UserKNNConfig(num_neighbours=6, shrinkage=10.0, prediction_shrinkage=0.5)
    (found,) = UserKNN.fit_all(TRAIN, NUM_ITEMS, [config], BIASES)
    expected_BI = voted_BI + BIASES.score_items(COLD)
    np.testing.assert_allclose(found.score_items(COLD), expected_BI, rtol=1e-5)
    query = COLD.query
    np.testing.assert_allclose(
        found.score_query(COLD), np.clip(expected_BI[query.task, query.item], *RANGE), rtol=1e-5
    )
    strangers = COLD.with_shots(0)
    np.testing.assert_allclose(found.score_items(strangers), BIASES.score_items(strangers))


def test_many_training_users_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_knn, "MOST_USERS", 10)
    (found,) = UserKNN.fit_all(TRAIN, NUM_ITEMS, [UserKNNConfig()])
    assert len(found.users.norm_U) == 10
    with pytest.raises(UserError, match="num_neighbours is 0"):
        UserKNNConfig(num_neighbours=0)
    with pytest.raises(UserError, match="must not be negative"):
        UserKNNConfig(shrinkage=-1.0)


def test_a_sparse_count_of_pairs_is_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = training_rows(TRAIN)
    known = KnownItems.of(rows, NUM_ITEMS, 9)
    dense = gram(known, rows, np.ones(len(rows.item)))
    assert (co_occurrences(known, rows) == dense).all()
    monkeypatch.setattr(neighbourhood, "SPARSE_COST", 0)
    monkeypatch.setattr(neighbourhood, "ITEMS_AT_ONCE", 4)
    assert (co_occurrences(known, rows) == dense).all()


def test_memory_and_a_ceiling_bound_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    assert neighbourhood.most_items(500) == 500
    monkeypatch.setattr(neighbourhood, "free_memory", lambda: 1 << 20)
    assert neighbourhood.most_items(10**6) == neighbourhood.MAX_ITEMS
    monkeypatch.setattr(neighbourhood, "free_memory", lambda: 4 << 30)
    assert neighbourhood.most_items(10**6) == int((2 * 2**30 / 20) ** 0.5) == 10362
    monkeypatch.setattr(neighbourhood, "free_memory", lambda: 1 << 40)
    assert neighbourhood.most_items(10**6) == neighbourhood.MOST_ITEMS


def test_lists_are_of_what_was_taken_or_of_what_was_liked() -> None:
    likes = with_ones(TRAIN)
    likes = dataclasses.replace(
        likes,
        support=likes.support.select(TRAIN.support.value >= 4),
        query=likes.query.select(TRAIN.query.value >= 4),
    )
    own_likes = dataclasses.replace(
        with_ones(COLD), support=with_ones(COLD).support.select(COLD.support.value >= 4)
    )
    (plain,) = Ease.fit_all(likes, NUM_ITEMS, [EaseConfig(regularisation=20.0)])
    search = BaselineSearch.of(make_spec(NUM_ITEMS), TRAIN, COLD, 0, lambda _: None)
    search = dataclasses.replace(search, relevant_from=4.0)
    config = ListConfig(liked_only=True, of=EaseConfig(regularisation=20.0))
    (found,) = baseline("ease").fit_all(search, TRAIN, [config])
    assert isinstance(found, ListsOfRatings)
    has_likes = own_likes.support.lengths > 0
    np.testing.assert_array_equal(
        found.score_items(COLD)[has_likes], plain.score_items(own_likes)[has_likes]
    )
    # Who liked nothing gets what most liked.
    nothing = make_tasks([{0: 1.0}], [{1: 5.0}])
    counts = np.bincount(training_rows(likes).item, minlength=NUM_ITEMS)
    np.testing.assert_array_equal(found.score_items(nothing)[0], counts)


def test_lists_are_chosen_by_lists_and_predictions_by_errors() -> None:
    trials: list[Trial] = []
    search = BaselineSearch.of(make_spec(NUM_ITEMS), TRAIN, COLD, 0, trials.append)
    found = search.fitted(baseline("user-knn"))
    assert isinstance(found, ValuesAndLists)
    assert makes_lists(found)
    assert found.predicts_values
    measures = {trial.method: trial.measure for trial in trials}
    assert measures["user-knn"] == "dev_mae"
    assert measures["user-knn-lists"] == "dev_ranking_loss"
    config = search.chosen(baseline("user-knn")).config
    assert isinstance(config, BothConfig)
    lists = [trial for trial in trials if trial.method == "user-knn-lists"]
    assert {trial.config["liked_only"] for trial in lists} == {False, True}
    best = min(lists, key=lambda trial: trial.loss)
    assert (config.lists.liked_only, config.lists.of.num_neighbours) == (
        best.config["liked_only"],
        best.config["of.num_neighbours"],
    )
    assert ranking_loss(found, COLD, NUM_ITEMS, search.liked_from) == pytest.approx(best.loss)


def test_published_protocols_have_the_predictions_alone() -> None:
    search = BaselineSearch.of(make_spec(NUM_ITEMS), TRAIN, COLD, 0, lambda _: None)
    search = dataclasses.replace(search, grid="published")
    for name in ("ease", "item-knn", "user-knn"):
        found = search.fitted(baseline(name))
        assert found.predicts_values
        assert not makes_lists(found)


def test_what_makes_lists_learns_from_both_kinds_of_feedback() -> None:
    for name in ("ease", "ials", "item-knn", "user-knn"):
        assert name in BESIDE_EVERY_MODEL["rating"]
        assert name in BESIDE_EVERY_MODEL["implicit"]
        assert set(baseline(name).objectives) == {"rating", "implicit"}
