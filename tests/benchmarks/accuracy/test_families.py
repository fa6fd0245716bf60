"""The baselines that need a library, and what the boosted trees are told, by plain formulas."""

import dataclasses

import numpy as np
import pytest
from small_logs import small_log

from benchmarks.accuracy import implicit, states
from benchmarks.accuracy.learners import LEARNERS
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.search import BUDGET, choose, search_of
from recmeta.evaluation.baseline import mean_error
from recmeta.evaluation.baseline_parts.support_features import (
    ITEM_SHRINKAGE,
    USER_SHRINKAGE,
    SupportFeatures,
)
from recmeta.evaluation.baselines.averages.item_mean_user_bias import ItemMeanUserBias
from recmeta.evaluation.fit_baselines import BASELINES, baseline
from recmeta.tasks.task_set import Tasks


def test_ials_folds_a_user_in_by_the_papers_equation() -> None:
    pytest.importorskip("implicit")
    from recmeta.evaluation.baselines.factors.ials import IALS, IALSConfig

    log = small_log(graded=False)
    problem = implicit.random_problem(log, "all", 0)
    cold = implicit.random_cold_users(log, 0)["user_cold"]
    config = IALSConfig(num_factors=8, regularisation=2.0, alpha=5.0)
    model = IALS.fit(problem.train, problem.num_items, config, seed=0)
    item_IF = np.asarray(model.model.item_factors, np.float64)
    found = model.score_items(cold)
    for user in range(len(cold)):
        met = cold.support.take(np.array([user])).item
        # (Y'Y + Y'(C - I)Y + l I) p = Y'C 1, with confidence alpha where the user met the item
        # (Hu, Koren and Volinsky, 2008, equation 4) and 1 elsewhere.
        system = item_IF.T @ item_IF + 2.0 * np.eye(8)
        system += (5.0 - 1.0) * item_IF[met].T @ item_IF[met]
        factors = np.linalg.solve(system, 5.0 * item_IF[met].sum(axis=0))
        np.testing.assert_allclose(found[user], item_IF @ factors, atol=2e-3)


@pytest.fixture
def problem() -> Problem:
    return states.problem(small_log(), "filtered", 0)


def features_of(problem: Problem, train: Tasks) -> SupportFeatures:
    return SupportFeatures.fit(train, problem.items, problem.num_items, problem.value_range)


def test_a_rows_own_value_is_not_among_its_features(problem: Problem) -> None:
    """Whatever a training query's value is, the features that predict it are the same."""
    features = features_of(problem, problem.train)
    task = problem.train.take(np.array([3]))
    base, matrix = features.of(task, strangers=False)
    item, value = task.query.item[0], task.query.value[0]
    left, count = features.left_I[item], features.count_I[item]
    content = features.by_content_I[item]
    others = left - (value - features.mean)
    effect = content + (others - (count - 1) * content) / (count - 1 + ITEM_SHRINKAGE)
    assert matrix[0, 0] == pytest.approx(effect)
    assert matrix[0, 1] == pytest.approx(np.log1p(count - 1))
    bias = base[0] - features.mean - effect
    assert bias == pytest.approx(matrix[0, 4])


def test_a_supports_summary_by_hand(problem: Problem) -> None:
    features = features_of(problem, problem.train)
    judges = problem.development["item_cold"].judges.take(np.array([0, 1]))
    base, matrix = features.of(judges, strangers=True)
    for user in range(2):
        rows = judges.support.take(np.array([user]))
        left = rows.value - features.mean - features.by_content_I[rows.item]
        bias = left.sum() / (len(left) + USER_SHRINKAGE)
        asked = judges.query.task == user
        np.testing.assert_allclose(matrix[asked, 4], bias)
        np.testing.assert_allclose(matrix[asked, 5], len(left))
        content = features.content_IF.numpy().astype(np.float64)
        like = np.maximum(content[judges.query.item[asked]] @ content[rows.item].T, 0)
        expected = like @ (left - bias) / (like.sum(axis=1) + 1)
        np.testing.assert_allclose(matrix[asked, 3], expected, atol=1e-6)
        item = judges.query.item[asked]
        np.testing.assert_allclose(
            base[asked], features.mean + features.by_content_I[item] + bias, atol=1e-6
        )


def test_boosted_trees_learn_and_score_the_catalogue_alike(problem: Problem) -> None:
    pytest.importorskip("lightgbm")
    from recmeta.evaluation.baselines.averages.global_mean import GlobalMean
    from recmeta.evaluation.baselines.trees.boosted_trees import BoostedTrees, BoostedTreesConfig

    features = features_of(problem, problem.development["user_cold"].train)
    train, judges = (
        problem.development["user_cold"].train,
        problem.development["user_cold"].judges,
    )
    config = BoostedTreesConfig(num_leaves=4, num_trees=20)
    model = BoostedTrees.fit(features, train, config, seed=0)
    query = judges.query
    listed_N = np.clip(model.score_items(judges)[query.task, query.item], *problem.value_range)
    np.testing.assert_allclose(listed_N, model.score_query(judges))
    mean = GlobalMean.fit(train, problem.num_items)
    assert mean_error(model, judges) < mean_error(mean, judges) - 0.1


def test_the_best_by_the_judges_is_chosen_within_the_budget(problem: Problem) -> None:
    one = baseline("item-mean-user-bias")
    search = search_of(problem, "user_cold", 0)
    grid = one.candidates(search)
    assert len(grid) <= BUDGET
    losses = [
        mean_error(predictor, search.judges)
        for predictor in one.fit_all(search, search.train, grid)
    ]
    chosen = choose(one, problem, "user_cold", 0)
    assert chosen.loss == min(losses)
    assert chosen.num_trials == len(grid)
    best = grid[int(np.argmin(losses))]
    assert chosen.config["user_regularisation"] == best.user_regularisation
    refitted = ItemMeanUserBias.fit(problem.train, problem.num_items, problem.value_range, best)
    assert isinstance(chosen.predictor, ItemMeanUserBias)
    np.testing.assert_array_equal(chosen.predictor.item_bias, refitted.item_bias)


def test_no_baseline_has_more_candidates_than_the_budget(problem: Problem) -> None:
    search = search_of(problem, "user_cold", 0)
    implicit_search = dataclasses.replace(search, objective="implicit")
    for name in BASELINES:
        one = baseline(name)
        for objective in LEARNERS[name].objectives:
            asked = search if objective == "rating" else implicit_search
            assert 1 <= len(one.candidates(asked)) <= BUDGET, name


def test_every_learner_names_a_module_that_is_there() -> None:
    from benchmarks.accuracy import code

    prints = {name: code.fingerprint(*learner.modules) for name, learner in LEARNERS.items()}
    assert all(len(text) == 16 for text in prints.values())
    assert prints["item-mean-user-bias"] != prints["mf-fold-in"]
    assert prints["maml"] != prints["bayesian-linear"]


def test_errors_fall_into_the_segments_of_their_items(problem: Problem) -> None:
    from benchmarks.accuracy import analysis

    assert analysis.names_of((0, 1, 20)) == ["0", "1–19", "20+"]
    judges = problem.development["user_cold"].judges
    predicted = np.full(len(judges.query.item), 3.0)
    count = analysis.training_counts(problem)
    assert count.sum() == len(problem.train.support.item) + len(problem.train.query.item)
    count[judges.query.item[0]] = 0
    found = analysis.columns(predicted, judges, count)
    asked = judges.query.select(judges.query.item == judges.query.item[0])
    of_first = found["mae, items with 0"]
    assert of_first[0] == pytest.approx(abs(asked.value[0] - 3.0))
    assert np.isfinite(of_first).sum() == len(np.unique(asked.task))


def test_predictions_are_rounded_to_the_scale(problem: Problem) -> None:
    from benchmarks.accuracy import analysis

    level = analysis.levels(problem)
    values = [problem.train.support.value, problem.train.query.value]
    assert set(level) == set(np.concatenate(values).tolist())
    halves = np.array([0.5, 1.0, 3.0])
    predicted = np.array([-2.0, 0.74, 0.75, 1.9, 2.1, 9.0, np.nan])
    expected = [0.5, 0.5, 1.0, 1.0, 3.0, 3.0, np.nan]
    np.testing.assert_array_equal(analysis.rounded(predicted, halves), expected)
