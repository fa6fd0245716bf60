"""EASE, item-kNN and the content ridge against plain numpy on tiny data."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from evaluation_tasks import low_rank_tasks

from recmeta.errors import UserError
from recmeta.evaluation.baseline_parts.item_content import item_content
from recmeta.evaluation.baseline_parts.neighbourhood import USERS_AT_ONCE, KnownItems, gram
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.baselines.averages.item_mean_user_bias import BiasConfig, ItemMeanUserBias
from recmeta.evaluation.baselines.content.content_ridge import ContentRidge, ContentRidgeConfig
from recmeta.evaluation.baselines.item_to_item.ease import Ease, EaseConfig, residuals
from recmeta.evaluation.baselines.item_to_item.item_knn import ItemKNN, ItemKNNConfig
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.item_files import Items
from recmeta.tasks.task_set import Ragged, Tasks

NUM_ITEMS = 12
RANGE = (1.0, 5.0)
TRAIN = low_rank_tasks(40, NUM_ITEMS, 8, 5, seed=0)
COLD = low_rank_tasks(9, NUM_ITEMS, 8, 5, seed=1)
BIASES = ItemMeanUserBias.fit(TRAIN, NUM_ITEMS, RANGE, BiasConfig())


def matrix(rows: Ragged, value_N: Float64Array) -> Float64Array:
    """Return the rows as a plain users by items matrix."""
    dense = np.zeros((len(rows), NUM_ITEMS))
    dense[rows.task, rows.item] = value_N
    return dense


def as_implicit(tasks: Tasks) -> Tasks:
    ones = [
        dataclasses.replace(side, value=np.ones_like(side.value))
        for side in (tasks.support, tasks.query)
    ]
    return dataclasses.replace(tasks, support=ones[0], query=ones[1])


def test_gram_sums_over_more_users_than_fit_at_once() -> None:
    tasks = low_rank_tasks(USERS_AT_ONCE + 50, NUM_ITEMS, 4, 2, seed=0)
    rows = training_rows(tasks)
    value_N = rows.value.astype(np.float64)
    known = KnownItems.of(rows, NUM_ITEMS)
    dense = matrix(rows, value_N)
    np.testing.assert_allclose(gram(known, rows, value_N).numpy(), dense.T @ dense, rtol=1e-5)


def test_only_the_most_met_items_have_weights() -> None:
    rows = Ragged.from_lists([[0, 1, 2], [1, 2], [2]], [[1.0] * 3, [1.0] * 2, [1.0]])
    known = KnownItems.of(rows, 4, max_items=2)
    np.testing.assert_array_equal(known.item_J, [1, 2])
    np.testing.assert_array_equal(known.place_I, [-1, 0, 1, -1])
    np.testing.assert_array_equal(known.dense(rows, np.ones(6)).numpy(), [[1, 1], [1, 1], [0, 1]])


def ease_weights(data: Float64Array, regularisation: float) -> Float64Array:
    """Solve each column's ridge regression on the other columns, one at a time."""
    weights = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for item in range(NUM_ITEMS):
        others = np.delete(np.arange(NUM_ITEMS), item)
        left = data[:, others]
        system = left.T @ left + regularisation * np.eye(len(others))
        weights[others, item] = np.linalg.solve(system, left.T @ data[:, item])
    return weights


def test_ease_solves_every_items_regression_on_the_others() -> None:
    train, cold = as_implicit(TRAIN), as_implicit(COLD)
    (model,) = Ease.fit_all(train, NUM_ITEMS, [EaseConfig(regularisation=4.0)])
    rows = training_rows(train)
    expected = matrix(cold.support, cold.support.value) @ ease_weights(
        matrix(rows, rows.value), 4.0
    )
    np.testing.assert_allclose(model.score_items(cold), expected, atol=1e-4)
    query = cold.query
    np.testing.assert_allclose(model.score_query(cold), expected[query.task, query.item], atol=1e-4)
    assert not model.predicts_values


def test_ease_of_ratings_adds_to_the_biases() -> None:
    configs = [EaseConfig(regularisation=r, scale=s) for r, s in ((4.0, 1.0), (4.0, 3.0))]
    rows = training_rows(TRAIN)
    weights = ease_weights(matrix(rows, residuals(rows, BIASES)), 4.0)
    linear = matrix(COLD.support, residuals(COLD.support, BIASES)) @ weights
    for model, scale in zip(
        Ease.fit_all(TRAIN, NUM_ITEMS, configs, BIASES), (1.0, 3.0), strict=True
    ):
        expected = BIASES.score_items(COLD) + scale * linear
        np.testing.assert_allclose(model.score_items(COLD), expected, atol=1e-4)
        predicted = np.clip(expected[COLD.query.task, COLD.query.item], *RANGE)
        np.testing.assert_allclose(model.score_query(COLD), predicted, atol=1e-4)


def similarities(data: Float64Array, met: Float64Array, shrinkage: float) -> Float64Array:
    found = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for i in range(NUM_ITEMS):
        for j in range(NUM_ITEMS):
            if i != j:
                cosine = data[:, i] @ data[:, j]
                cosine /= np.linalg.norm(data[:, i]) * np.linalg.norm(data[:, j])
                both = met[:, i] @ met[:, j]
                found[i, j] = max(cosine, 0.0) * both / (both + shrinkage)
    return found


def test_neighbours_of_ratings_vote_with_their_residuals() -> None:
    config = ItemKNNConfig(num_neighbours=2, shrinkage=3.0, prediction_shrinkage=0.5)
    (model,) = ItemKNN.fit_all(TRAIN, NUM_ITEMS, [config], BIASES)
    rows = training_rows(TRAIN)
    left = matrix(rows, residuals(rows, BIASES))
    similarity = similarities(left, matrix(rows, np.ones(len(rows.item))), 3.0)
    expected = BIASES.score_items(COLD)
    for user in range(len(COLD)):
        support = COLD.support.take(np.array([user]))
        error = residuals(support, BIASES)
        for item in range(NUM_ITEMS):
            near = np.argsort(-similarity[support.item, item])[:2]
            weight = similarity[support.item, item][near]
            expected[user, item] += weight @ error[near] / (weight.sum() + 0.5)
    np.testing.assert_allclose(model.score_items(COLD), expected, atol=1e-5)
    predicted = np.clip(expected[COLD.query.task, COLD.query.item], *RANGE)
    np.testing.assert_allclose(model.score_query(COLD), predicted, atol=1e-5)


def test_neighbours_of_implicit_feedback_are_the_catalogues() -> None:
    train, cold = as_implicit(TRAIN), as_implicit(COLD)
    (model,) = ItemKNN.fit_all(train, NUM_ITEMS, [ItemKNNConfig(num_neighbours=3, shrinkage=2.0)])
    rows = training_rows(train)
    met = matrix(rows, rows.value)
    similarity = similarities(met, met, 2.0)
    for item in range(NUM_ITEMS):
        similarity[np.argsort(-similarity[:, item])[3:], item] = 0.0
    expected = matrix(cold.support, cold.support.value) @ similarity
    np.testing.assert_allclose(model.score_items(cold), expected, atol=1e-5)


def test_without_support_item_models_say_what_the_biases_say() -> None:
    bare = COLD.with_shots(0)
    (ease,) = Ease.fit_all(TRAIN, NUM_ITEMS, [EaseConfig()], BIASES)
    (knn,) = ItemKNN.fit_all(TRAIN, NUM_ITEMS, [ItemKNNConfig()], BIASES)
    for model in (ease, knn):
        np.testing.assert_allclose(model.score_query(bare), BIASES.score_query(bare))
        np.testing.assert_allclose(model.score_items(bare), BIASES.score_items(bare))


def test_the_content_ridge_solves_the_joint_regression() -> None:
    content = torch.from_numpy(np.random.default_rng(0).normal(size=(NUM_ITEMS, 3)) / 2).float()
    config = ContentRidgeConfig(
        content_regularisation=2.0, item_regularisation=3.0, user_regularisation=4.0, sweeps=400
    )
    (model,) = ContentRidge.fit_all(TRAIN, content, RANGE, [config])
    rows = training_rows(TRAIN)
    num_rows, num_users = len(rows.item), len(TRAIN)
    design = np.zeros((num_rows, 3 + NUM_ITEMS + num_users))
    design[:, :3] = content.numpy()[rows.item]
    design[np.arange(num_rows), 3 + rows.item] = 1.0
    design[np.arange(num_rows), 3 + NUM_ITEMS + rows.task] = 1.0
    penalty = np.diag([2.0] * 3 + [3.0] * NUM_ITEMS + [4.0] * num_users)
    target = rows.value.astype(np.float64) - model.mean
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ target)
    expected = content.numpy() @ solution[:3] + solution[3 : 3 + NUM_ITEMS]
    np.testing.assert_allclose(model.item_I, expected, atol=1e-6)


def test_a_users_taste_is_a_ridge_regression_on_the_support() -> None:
    content = torch.from_numpy(np.random.default_rng(0).normal(size=(NUM_ITEMS, 3)) / 2).float()
    config = ContentRidgeConfig(user_regularisation=4.0, taste_regularisation=1.5)
    (model,) = ContentRidge.fit_all(TRAIN, content, RANGE, [config])
    cold = dataclasses.replace(COLD, support=COLD.support.select(COLD.support.task != 2))
    design = np.column_stack([np.ones(NUM_ITEMS), content.numpy().astype(np.float64)])
    penalty = np.diag([4.0, 1.5, 1.5, 1.5])
    expected = np.empty((len(cold), NUM_ITEMS))
    for user in range(len(cold)):
        support = cold.support.take(np.array([user]))
        left = support.value - model.mean - model.item_I[support.item]
        known = design[support.item]
        own = np.linalg.solve(known.T @ known + penalty, known.T @ left)
        expected[user] = model.mean + model.item_I + design @ own
    np.testing.assert_allclose(model.score_items(cold), expected, atol=1e-4)
    predicted = np.clip(expected[cold.query.task, cold.query.item], *RANGE)
    np.testing.assert_allclose(model.score_query(cold), predicted, atol=1e-4)


def test_a_users_result_does_not_depend_on_the_batch() -> None:
    content = torch.eye(NUM_ITEMS)
    (ridge,) = ContentRidge.fit_all(TRAIN, content, RANGE, [ContentRidgeConfig()])
    (knn,) = ItemKNN.fit_all(TRAIN, NUM_ITEMS, [ItemKNNConfig(num_neighbours=2)], BIASES)
    for model in (ridge, knn):
        together = model.score_items(COLD)
        for user in range(len(COLD)):
            alone = model.score_items(COLD.take(np.array([user])))[0]
            np.testing.assert_allclose(alone, together[user], atol=1e-5)


def test_content_is_categories_lists_and_numbers_of_length_one() -> None:
    attributes = pa.table(
        {
            "year": pa.array([1990.0, 2000.0, 2010.0, None]),
            "kind": pa.array(["a", "a", "a", None]),
            "tags": pa.array([["x", "y"], ["x"], ["x", "y"], ["y"]]),
        }
    )
    items = Items(
        pa.array(["i0", "i1", "i2", "i3"]),
        np.arange(4, dtype=np.int32),
        np.zeros(4, np.int64),
        attributes,
    )
    content, names = item_content(items)
    assert names == ["year", "kind=a", "tags=x", "tags=y"]
    half = np.sqrt(0.5)
    expected = np.array([[1, half, half], [1, 1, 0], [1, half, half], [0, 0, 1]]) / np.sqrt(3)
    np.testing.assert_allclose(content.numpy()[:, 1:], expected, rtol=1e-6)
    spread = 10 * np.sqrt(2 / 3)
    np.testing.assert_allclose(
        content.numpy()[:, 0], np.array([-10, 0, 10, 0]) / spread / np.sqrt(3), rtol=1e-6
    )


def test_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="regularisation is 0"):
        EaseConfig(regularisation=0)
    with pytest.raises(UserError, match="num_neighbours is 0"):
        ItemKNNConfig(num_neighbours=0)
    with pytest.raises(UserError, match="taste_regularisation"):
        ContentRidgeConfig(taste_regularisation=0)
