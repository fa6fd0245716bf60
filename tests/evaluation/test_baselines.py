import dataclasses
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from evaluation_tasks import low_rank_tasks, make_spec, make_tasks
from hypothesis import given
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Trial
from recmeta.evaluation.baselines.averages import item_mean_user_bias
from recmeta.evaluation.baselines.averages.global_mean import GlobalMean
from recmeta.evaluation.baselines.averages.item_mean import ItemMean, ItemMeanConfig
from recmeta.evaluation.baselines.averages.item_mean_user_bias import BiasConfig, ItemMeanUserBias
from recmeta.evaluation.baselines.averages.popularity import Popularity
from recmeta.evaluation.baselines.averages.user_median import UserMedian, UserMedianConfig
from recmeta.evaluation.baselines.factors import mf_fold_in
from recmeta.evaluation.baselines.factors.mf_fold_in import (
    MatrixFactorisation,
    MatrixFactorisationConfig,
)
from recmeta.evaluation.baselines.item_to_item.ease import Ease
from recmeta.evaluation.comparison.bootstrap import paired_difference
from recmeta.evaluation.fit_baselines import fit_baselines
from recmeta.evaluation.measuring.catalogue_metrics import ranking_of
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.tasks.task_set import Ragged, Tasks

IN_DOUBLE_PRECISION = (
    "global-mean",
    "user-median",
    "item-mean",
    "item-mean-user-bias",
    "popularity",
    "mf-fold-in",
)
TRAIN = make_tasks([{0: 5.0, 1: 1.0}, {0: 4.0}], [{2: 3.0}, {1: 2.0}])  # mean 3
TEST = make_tasks([{}, {0: 2.0, 1: 1.0}], [{0: 4.0, 3: 1.0}, {2: 5.0}])  # item 3 is unknown
RANGE = (1.0, 5.0)


def test_means_by_hand() -> None:
    np.testing.assert_allclose(GlobalMean.fit(TRAIN, 4).score_query(TEST), [3.0, 3.0, 3.0])
    item_mean = ItemMean.fit(TRAIN, 4, ItemMeanConfig(regularisation=1.0))
    np.testing.assert_allclose(item_mean.item_score, [4.0, 2.0, 3.0, 3.0])
    np.testing.assert_allclose(item_mean.score_query(TEST), [4.0, 3.0, 3.0])
    assert item_mean.score_items(TEST).shape == (2, 4)


@given(
    values=st.lists(st.lists(st.integers(1, 5).map(float), max_size=6), min_size=1, max_size=5),
    num_imaginary=st.integers(1, 4),
)
def test_a_users_median_counts_the_imaginary_ratings(
    values: list[list[float]], num_imaginary: int
) -> None:
    support = Ragged.from_lists([list(range(len(row))) for row in values], values)
    model = UserMedian(3.0, 4, UserMedianConfig(num_imaginary=num_imaginary))
    expected = [np.median([*row, *[3.0] * num_imaginary]) for row in values]
    np.testing.assert_allclose(model.of_users(support), expected)


def test_the_user_median_ignores_items() -> None:
    model = UserMedian.fit(TRAIN, 4, UserMedianConfig(num_imaginary=1))
    assert model.median == 3.0
    np.testing.assert_allclose(model.score_query(TEST), [3.0, 3.0, 2.0])
    assert model.score_items(TEST).shape == (2, 4)
    with pytest.raises(UserError, match="num_imaginary is 0"):
        UserMedianConfig(num_imaginary=0)


def test_popularity_counts_users_not_rows() -> None:
    train = dataclasses.replace(TRAIN, query=Ragged.from_lists([[0, 0], [1]], [[1, 1], [1]]))
    popularity = Popularity.fit(train, 4)
    np.testing.assert_array_equal(popularity.num_users, [2, 2, 0, 0])
    np.testing.assert_array_equal(popularity.score_query(TEST), [2, 0, 0])


def test_a_users_bias_is_a_shrunken_mean_of_residuals() -> None:
    config = BiasConfig(item_regularisation=1.0, user_regularisation=2.0, sweeps=0)
    model = ItemMeanUserBias.fit(TRAIN, 4, RANGE, config)
    np.testing.assert_allclose(model.item_bias, [1.0, -1.0, 0.0, 0.0])
    np.testing.assert_allclose(model.user_bias(TEST.support), [0.0, (-2.0 - 1.0) / 4.0])
    np.testing.assert_allclose(model.score_query(TEST), [4.0, 3.0, 2.25])


def test_biases_solve_the_joint_ridge_regression() -> None:
    train = low_rank_tasks(30, 12, 8, 5, seed=0)
    config = BiasConfig(item_regularisation=2.0, user_regularisation=3.0, sweeps=200)
    model = ItemMeanUserBias.fit(train, 12, RANGE, config)
    task = np.concatenate([train.support.task, train.query.task])
    item = np.concatenate([train.support.item, train.query.item])
    value = np.concatenate([train.support.value, train.query.value]) - model.mean
    design = np.zeros((len(task), 30 + 12))
    design[np.arange(len(task)), task] = 1.0
    design[np.arange(len(task)), 30 + item] = 1.0
    penalty = np.diag([3.0] * 30 + [2.0] * 12)
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ value)
    np.testing.assert_allclose(model.item_bias, solution[30:], atol=1e-8)


def test_users_are_fitted_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    train = low_rank_tasks(40, 15, 10, 6, seed=0)
    biases, factors = (
        ItemMeanUserBias.fit(train, 15, RANGE),
        MatrixFactorisation.fit(train, 15, RANGE),
    )
    monkeypatch.setattr(item_mean_user_bias, "USERS_AT_ONCE", 7)
    monkeypatch.setattr(mf_fold_in, "SYSTEMS_AT_ONCE", 7)
    monkeypatch.setattr(mf_fold_in, "MOST_NUMBERS", 100)
    np.testing.assert_array_equal(
        ItemMeanUserBias.fit(train, 15, RANGE).item_bias, biases.item_bias
    )
    parted = MatrixFactorisation.fit(train, 15, RANGE)
    np.testing.assert_allclose(parted.item_IC, factors.item_IC, atol=1e-10)


def test_without_factors_the_factorisation_is_the_bias_model() -> None:
    train, test = low_rank_tasks(30, 12, 8, 5, seed=0), low_rank_tasks(10, 12, 8, 5, seed=1)
    biases = ItemMeanUserBias.fit(train, 12, RANGE, BiasConfig(sweeps=300))
    config = MatrixFactorisationConfig(num_factors=0, sweeps=300)
    factorisation = MatrixFactorisation.fit(train, 12, RANGE, config)
    np.testing.assert_allclose(factorisation.score_query(test), biases.score_query(test), atol=1e-8)
    np.testing.assert_allclose(factorisation.score_items(test), biases.score_items(test), atol=1e-8)


def test_folding_in_solves_each_users_ridge_regression() -> None:
    train, test = low_rank_tasks(40, 15, 10, 6, seed=0), low_rank_tasks(7, 15, 10, 6, seed=1)
    config = MatrixFactorisationConfig(num_factors=3, factor_regularisation=2.0)
    model = MatrixFactorisation.fit(train, 15, RANGE, config, seed=4)
    found = model.fold_in(test.support).numpy()
    item = model.item_IC.numpy()
    for b in range(len(test)):
        rows = test.support.take(np.array([b]))
        design = item[rows.item].copy()
        design[:, 0] = 1.0
        target = rows.value.astype(np.float64) - model.mean - item[rows.item, 0]
        gram = design.T @ design + np.diag([config.user_regularisation, 2.0, 2.0, 2.0])
        np.testing.assert_allclose(found[b], np.linalg.solve(gram, design.T @ target), atol=1e-9)
    scores = model.score_items(test)
    query = test.query
    expected = np.clip(scores[query.task, query.item], *RANGE)
    np.testing.assert_allclose(model.score_query(test), expected, atol=1e-12)


def test_every_sweep_lowers_the_training_loss() -> None:
    train = low_rank_tasks(40, 15, 10, 6, seed=0)
    values = np.concatenate([train.support.value, train.query.value])
    task = np.concatenate([train.support.task, train.query.task])
    item = np.concatenate([train.support.item, train.query.item])
    everything = dataclasses.replace(
        train,
        support=Ragged.from_lists(
            [item[task == b].tolist() for b in range(len(train))],
            [values[task == b].tolist() for b in range(len(train))],
        ),
    )

    def loss(sweeps: int) -> float:
        config = MatrixFactorisationConfig(num_factors=2, factor_regularisation=3.0, sweeps=sweeps)
        model = MatrixFactorisation.fit(train, 15, RANGE, config)
        user_UC = model.fold_in(everything.support).numpy()
        item_IC = model.item_IC.numpy()
        predicted = model.mean + user_UC[task, 0] + item_IC[item, 0]
        predicted += (user_UC[task, 1:] * item_IC[item, 1:]).sum(1)
        return float(
            ((values - predicted) ** 2).sum()
            + 3.0 * ((user_UC[:, 1:] ** 2).sum() + (item_IC[:, 1:] ** 2).sum())
            + config.user_regularisation * (user_UC[:, 0] ** 2).sum()
            + config.item_regularisation * (item_IC[:, 0] ** 2).sum()
        )

    losses = [loss(sweeps) for sweeps in range(1, 8)]
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(losses))


def test_a_users_scores_do_not_depend_on_the_batch_nor_on_the_query_values() -> None:
    train, test = low_rank_tasks(60, 20, 12, 6, seed=0), low_rank_tasks(9, 20, 12, 6, seed=1)
    hidden = dataclasses.replace(
        test,
        query=dataclasses.replace(test.query, value=np.full_like(test.query.value, np.nan)),
    )
    dev = low_rank_tasks(20, 20, 12, 6, seed=2)
    fitted = fit_baselines(make_spec(20), train, dev, seed=0, names=IN_DOUBLE_PRECISION)
    for predictor in fitted.values():
        whole = predictor.score_query(test)
        parts = np.concatenate([predictor.score_query(b) for b in hidden.batches(2)])
        np.testing.assert_allclose(whole, parts, rtol=1e-12)


def test_tuned_baselines_order_as_they_should_on_low_rank_ratings() -> None:
    train, dev, test = (
        low_rank_tasks(num, 60, 40, 20, seed=seed) for num, seed in ((300, 0), (60, 1), (150, 2))
    )
    num_threads = torch.get_num_threads()
    names = [*IN_DOUBLE_PRECISION, "item-knn", "user-knn"]
    fitted = fit_baselines(make_spec(60), train, dev, seed=0, names=names)
    assert torch.get_num_threads() == num_threads
    assert list(fitted) == names
    error = {
        name: float(mae(p.score_query(test), test.query).mean())
        for name, p in fitted.items()
        if p.predicts_values
    }
    assert (
        error["global-mean"]
        > error["item-mean"]
        > error["item-mean-user-bias"]
        > error["mf-fold-in"] + 0.1
    )
    for name in ("item-knn", "user-knn"):
        assert error["mf-fold-in"] < error[name] < error["item-mean-user-bias"] - 0.05
    again = fit_baselines(make_spec(60), train, dev, seed=0, names=names)
    np.testing.assert_array_equal(
        fitted["mf-fold-in"].score_query(test), again["mf-fold-in"].score_query(test)
    )


def test_nothing_to_tune_on_and_nothing_to_fit_on() -> None:
    nobody = TRAIN.take(np.arange(0))
    fitted = fit_baselines(make_spec(4), TRAIN, nobody, seed=0)
    for predictor in fitted.values():
        assert np.isfinite(predictor.score_query(TEST)).all()
        assert np.isfinite(predictor.score_items(TEST)).all()
    with pytest.raises(UserError, match="no interactions"):
        fit_baselines(make_spec(4), nobody, nobody, seed=0)
    with pytest.raises(UserError, match="factor_regularisation is 0"):
        MatrixFactorisationConfig(factor_regularisation=0.0)


def test_implicit_task_sets_have_popularity_and_a_tuned_ease() -> None:
    spec = make_spec(60, "implicit", (1.0, 1.0))
    train, dev = (low_rank_tasks(num, 60, 25, 10, seed=seed) for num, seed in ((150, 0), (40, 1)))
    trials: list[Trial] = []
    fitted = fit_baselines(spec, train, dev, on_trial=trials.append)
    assert [n for n in fitted if n != "ials"] == ["popularity", "ease", "item-knn", "user-knn"]
    assert {trial.measure for trial in trials} == {"dev_ranking_loss"}
    trials = [trial for trial in trials if trial.method == "ease"]
    best = min(trials, key=lambda trial: trial.loss)
    assert best.loss < max(trial.loss for trial in trials)
    chosen = fitted["ease"]
    assert isinstance(chosen, Ease)
    assert chosen.config.regularisation == best.config["regularisation"]
    (tuned,) = Ease.fit_all(train, 60, [chosen.config])
    assert np.mean(ranking_of(tuned, dev, 60, 10)["ndcg@10"]) == pytest.approx(1 - best.loss)
    (whole,) = Ease.fit_all(Tasks.joined([train, dev]), 60, [chosen.config])
    assert np.array_equal(chosen.score_items(dev), whole.score_items(dev))
    assert not np.array_equal(chosen.score_items(dev), tuned.score_items(dev))


def test_ease_is_fitted_where_nobody_judges() -> None:
    spec = make_spec(4, "implicit", (1.0, 1.0))
    fitted = fit_baselines(spec, TRAIN, TRAIN.take(np.arange(0)), names=["ease"])
    assert np.isfinite(fitted["ease"].score_items(TEST)).all()


def test_tuned_baselines_predict_alike_on_any_scale() -> None:
    train, dev, test = (
        low_rank_tasks(num, 40, 25, 10, seed=seed) for num, seed in ((120, 0), (40, 1), (40, 2))
    )
    names = [*IN_DOUBLE_PRECISION, "item-knn", "user-knn"]
    fitted = fit_baselines(make_spec(40), train, dev, seed=0, names=names)
    stretched, moved = 16.0, -48.0  # a power of two, so that nothing is rounded otherwise
    wide = fit_baselines(
        make_spec(40, value_range=(stretched + moved, 5 * stretched + moved)),
        rescaled(train, stretched, moved),
        rescaled(dev, stretched, moved),
        seed=0,
        names=names,
    )
    far = rescaled(test, stretched, moved)
    for name, predictor in fitted.items():
        if predictor.predicts_values:
            expected_N = predictor.score_query(test) * stretched + moved
            np.testing.assert_allclose(wide[name].score_query(far), expected_N, atol=1e-3)


def rescaled(tasks: Tasks, ratio: float, shift: float) -> Tasks:
    """Return the tasks with all values on another scale."""
    sides = {
        name: dataclasses.replace(side, value=side.value * np.float32(ratio) + np.float32(shift))
        for name, side in (("support", tasks.support), ("query", tasks.query))
    }
    return dataclasses.replace(tasks, **sides)


def movielens_tasks(path: Path, seed: int) -> tuple[Tasks, Tasks, Tasks, int]:
    """Split users 70/10/20; the first 20 ratings by time are support, the next 20 query."""
    table = pq.read_table(path)
    user = np.unique(table["user_id"].to_numpy(), return_inverse=True)[1]
    item = np.unique(table["item_id"].to_numpy(), return_inverse=True)[1]
    time_ = table["timestamp"].to_numpy()
    order = np.lexsort((item, time_, user))
    user, item = user[order], item[order]
    value = table["rating"].to_numpy()[order].astype(np.float32)
    lengths = np.bincount(user)
    everything = Ragged(
        np.concatenate([[0], np.cumsum(lengths)]),
        item.astype(np.int32),
        value,
        np.zeros(len(value), np.bool_),
    )
    place = everything.position
    num_users = len(lengths)
    tasks = Tasks(
        pa.table({"user_id": [str(u) for u in range(num_users)]}),
        np.zeros(num_users, np.int64),
        np.zeros(num_users, np.int32),
        np.array(["user_cold"] * num_users, np.str_),
        everything.select(place < 20),
        everything.select((place >= 20) & (place < 40)),
    )
    shuffled = np.random.default_rng(seed).permutation(num_users)
    parts = np.split(shuffled, [int(0.7 * num_users), int(0.8 * num_users)])
    train, dev, test = (tasks.take(np.sort(part)) for part in parts)
    return train, dev, test, int(item.max()) + 1


def test_factorisation_beats_the_biases_on_movielens() -> None:
    folder = Path(os.environ.get("RECMETA_SHARED_DATA", "../shared/data"))
    path = folder / "ml-100k" / "interactions.parquet"
    if not path.exists():
        pytest.skip("no ml-100k/interactions.parquet under RECMETA_SHARED_DATA or ../shared/data")
    train, dev, test, num_items = movielens_tasks(path, seed=0)
    started = time.process_time()  # others may keep this machine busy
    names = ["item-mean-user-bias", "mf-fold-in"]
    fitted = fit_baselines(make_spec(num_items), train, dev, seed=0, names=names)
    assert time.process_time() - started < 30  # seconds; about 2 as a rule
    errors = {
        name: mae(p.score_query(test), test.query)
        for name, p in fitted.items()
        if p.predicts_values
    }
    gain = paired_difference(
        errors["mf-fold-in"], errors["item-mean-user-bias"], np.random.default_rng(0)
    )
    assert gain.ci_high < 0
    assert np.nanmean(errors["mf-fold-in"]) < 0.80
