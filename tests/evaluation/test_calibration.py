"""The uncertainty of a model: learned on development users, checked on others, kept with it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from recmeta.evaluation import calibration as calibrations
from recmeta.evaluation.calibration import calibration, learn_uncertainty, residuals
from recmeta.metalearn.heads.uncertainty import LEVELS
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.predicted_rows import predict_query
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.explanations import support_effects
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import DIGESTS, Folder


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=400, num_items=40, rows_per_user=(6, 16)), seed=5)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(params=["maml", "bayesian-linear"])
def model(request: pytest.FixtureRequest, task_set: TaskSet) -> Model:
    config = ModelConfig(
        algorithm=request.param, network=PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    )
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    return model


def test_intervals_hold_as_often_as_they_say(model: Model, task_set: TaskSet) -> None:
    model.uncertainty = learn_uncertainty(model, task_set.tasks("dev"))
    assert model.uncertainty is not None
    assert (model.uncertainty.spread is None) == (model.config.algorithm == "maml")
    found = _calibration(model, task_set)
    assert found is not None
    assert [row["level"] for row in found["coverage"]] == list(LEVELS)
    for row in found["coverage"]:
        assert row["observed"] == pytest.approx(row["level"], abs=0.08)
        assert row["development"] == pytest.approx(row["level"], abs=0.05)
        assert row["ci_low"] < row["observed"] < row["ci_high"]
        assert ("learners_own" in row) == (model.config.algorithm == "bayesian-linear")
    assert sum(b["num_rows"] for b in found["bins"]) == found["num_rows"]
    for bin_ in found["bins"]:
        assert bin_["rmse"] == pytest.approx(bin_["expected_rmse"], rel=0.25)


def test_of_many_development_users_some_are_taken(
    task_set: TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.untrained(ModelConfig(algorithm="bayesian-linear"), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    development = task_set.tasks("dev")
    every_second = development.take(np.arange(0, len(development) - 1 + len(development) % 2, 2))
    monkeypatch.setattr(calibrations, "MOST_USERS", len(every_second))
    some = development.take(np.arange(2 * len(every_second) - 1))
    found, expected = (learn_uncertainty(model, tasks) for tasks in (some, every_second))
    assert found == expected
    assert found != learn_uncertainty(model, development.take(np.arange(5)))


def test_it_is_kept_with_the_model(model: Model, task_set: TaskSet, tmp_path: object) -> None:
    model.uncertainty = learn_uncertainty(model, task_set.tasks("dev"))
    folder = Folder.at(str(tmp_path))
    model.save(folder)
    loaded = Model.load(folder)
    assert loaded.uncertainty == model.uncertainty
    about = folder.read_json("model.json")
    del about["uncertainty"]  # as models were before there was any
    folder.write_json("model.json", about)
    folder.delete(DIGESTS)
    assert Model.load(folder).uncertainty is None
    assert _calibration(Model.load(folder), task_set) is None


def test_every_user_counts_alike(model: Model, task_set: TaskSet) -> None:
    dev = task_set.tasks("dev")
    found = residuals(model, dev)
    assert found.user_N.tolist() == dev.query.task.tolist()
    assert np.bincount(found.user_N, found.weight_N) == pytest.approx(np.ones(len(dev)))
    expected = dev.query.value - predict_query(Scorer.of(model), dev).expected_N
    np.testing.assert_allclose(found.residual_N, expected, atol=1e-5)


def test_what_is_expected_has_no_more_error_than_what_the_learner_says(
    model: Model, task_set: TaskSet
) -> None:
    """Learned from all users and shots together, so that each is a little off."""
    model.uncertainty = learn_uncertainty(model, task_set.tasks("dev"))
    found = residuals(model, task_set.tasks("dev"))
    raw_error_N = found.value_N - found.raw_N
    assert found.weight_N @ found.residual_N**2 <= found.weight_N @ raw_error_N**2
    assert abs(found.weight_N @ found.residual_N) / found.weight_N.sum() < 0.05


def test_lists_explanations_and_intervals_have_one_centre(model: Model, task_set: TaskSet) -> None:
    model = model.on(task_set.items(), task_set.statistics().last())
    model.uncertainty = learn_uncertainty(model, _at_the_end(task_set.tasks("dev")))
    assert model.uncertainty is not None
    assert model.uncertainty.slope != 1
    tasks = _at_the_end(task_set.tasks("test")).take(np.arange(5))
    lists = rank(Scorer.of(model), adapt_users(Scorer.of(model), tasks), ScoringConfig(top_k=3))
    for place in range(3):
        item = lists.item_Bk[:, [place]]
        asked = Ragged(
            np.arange(6),
            item[:, 0].astype(np.int32),
            np.zeros(5, np.float32),
            np.zeros(5, np.bool_),
        )
        found = predict_query(Scorer.of(model), dataclasses.replace(tasks, query=asked))
        assert lists.score_Bk[:, place] == pytest.approx(found.expected_N, abs=1e-4)
        effects = support_effects(Scorer.of(model), tasks, item)
        low, high = model.value_range
        score = np.clip(effects.score_Bk[:, 0], low, high)
        assert score == pytest.approx(found.expected_N, abs=1e-4)


def test_there_is_none_of_implicit_feedback(model: Model, task_set: TaskSet) -> None:
    implicit = Model(
        dataclasses.replace(model.config),
        model.params,
        model.encoder,
        model.catalogue.items,
        model.catalogue.statistics,
        "implicit",
        (0.0, 1.0),
        model.device,
    )
    assert learn_uncertainty(implicit, task_set.tasks("dev")) is None


def _at_the_end(tasks: Tasks) -> Tasks:
    """Return the tasks at the newest snapshot, which is where lists are made."""
    return dataclasses.replace(
        tasks,
        snapshot=np.zeros_like(tasks.snapshot),
        cut_time=np.full_like(tasks.cut_time, np.iinfo(np.int64).max),
    )


def _calibration(model: Model, task_set: TaskSet) -> dict[str, Any] | None:
    generator = np.random.default_rng(0)
    return calibration(model, task_set.tasks("test"), task_set.tasks("dev"), generator)
