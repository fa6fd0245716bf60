"""The uncertainty of a model: learned on development users, checked on others, kept with it."""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.evaluation.calibration import calibration, learn_uncertainty, residuals
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.uncertainty import LEVELS
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder


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
    found = calibration(model, task_set.tasks("test"))
    assert found is not None
    assert [row["level"] for row in found["coverage"]] == list(LEVELS)
    for row in found["coverage"]:
        assert row["observed"] == pytest.approx(row["level"], abs=0.08)
        assert ("learners_own" in row) == (model.config.algorithm == "bayesian-linear")
    assert sum(b["num_rows"] for b in found["bins"]) == found["num_rows"]
    for bin_ in found["bins"]:
        assert bin_["rmse"] == pytest.approx(bin_["expected_rmse"], rel=0.25)


def test_it_is_kept_with_the_model(model: Model, task_set: TaskSet, tmp_path: object) -> None:
    model.uncertainty = learn_uncertainty(model, task_set.tasks("dev"))
    folder = Folder.at(str(tmp_path))
    model.save(folder)
    loaded = Model.load(folder)
    assert loaded.uncertainty == model.uncertainty
    about = folder.read_json("model.json")
    del about["uncertainty"]  # as models were before there was any
    folder.write_json("model.json", about)
    assert Model.load(folder).uncertainty is None
    assert calibration(Model.load(folder), task_set.tasks("test")) is None


def test_every_user_counts_alike(model: Model, task_set: TaskSet) -> None:
    dev = task_set.tasks("dev")
    found = residuals(model, dev)
    assert found.user_N.tolist() == dev.query.task.tolist()
    expected = dev.query.value - model.score_query(dev)
    np.testing.assert_allclose(found.residual_N, expected, atol=1e-5)


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
