"""Every algorithm learns the literature's toy families, and does better than without adapting."""

import os

import numpy as np
import pytest
import torch
from toy_tasks import NUM_WAYS, digits, lines, sinusoids

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.registry import LEARNERS, config_class
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder

NETWORK = PreferenceConfig(embedding_dim=8, hidden_dims=(32,), use_statistics=False)
COUNTS_ALONE = {"prior-fitted"}
"""Learners that read no attribute of an item, neither a place on a line nor pixels."""
OF_RATINGS = [
    name
    for name in LEARNERS
    if "rating" in config_class(name).objectives and name not in COUNTS_ALONE
]
LEARNING_RATES = {"transformer-np": 3e-3}
"""Of learners for which 0.01 is too long a step: attention stays where it began."""


slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")


@pytest.fixture(scope="module")
def classifications(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    pytest.importorskip("sklearn")
    return digits(Folder.at(tmp_path_factory.mktemp("digits")))


def trained(algorithm: str, task_set: TaskSet, num_epochs: int, *, use_ids: bool = False) -> Model:
    features = FeatureConfig(use_item_id=use_ids)
    config = ModelConfig(algorithm=algorithm, network=NETWORK, features=features)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        episodes=EpisodeConfig(batch_size=16, max_support=10),
        config=TrainingConfig(
            epochs=num_epochs,
            learning_rate=LEARNING_RATES.get(algorithm, 1e-2),
            weight_decay=0.0,
        ),
        seed=0,
    )
    return model


def error(model: Model, task_set: TaskSet, num_shots: int) -> float:
    tasks = task_set.tasks("test").with_shots(num_shots)
    return float(np.abs(Scorer.of(model).score_query(tasks) - tasks.query.value).mean())


def accuracy(model: Model, task_set: TaskSet, num_shots: int) -> float:
    """Return the share of images whose class is the one that says so loudest."""
    tasks = task_set.tasks("test").with_shots(num_shots)
    rows = model.catalogue.rows(tasks.query, tasks)
    with torch.no_grad():
        output_TR = model.learner.predict(model.params, Scorer.of(model).adapt(tasks), rows).mean_BR
    told = output_TR.view(-1, NUM_WAYS, output_TR.shape[1]).argmax(1)
    truth = rows.value_BR.view(-1, NUM_WAYS, output_TR.shape[1]).argmax(1)
    return float((told == truth).float().mean())


@pytest.mark.parametrize("algorithm", OF_RATINGS)
def test_ten_points_tell_a_line(tmp_path_factory: pytest.TempPathFactory, algorithm: str) -> None:
    task_set = lines(Folder.at(tmp_path_factory.mktemp("lines")))
    model = trained(algorithm, task_set, 20 if algorithm == "latent-np" else 12)
    assert error(model, task_set, 10) < 0.9 * error(model, task_set, 0)


@slow
@pytest.mark.parametrize("algorithm", OF_RATINGS)
def test_ten_points_tell_a_sinusoid(
    tmp_path_factory: pytest.TempPathFactory, algorithm: str
) -> None:
    """The places are known by name: no line through x says much of a sinusoid."""
    task_set = sinusoids(Folder.at(tmp_path_factory.mktemp("sinusoids")))
    model = trained(algorithm, task_set, 40, use_ids=True)
    # Transfer is the one that hardly does, which is what Finn et al. (2017, figure 2) found.
    assert error(model, task_set, 10) < 0.97 * error(model, task_set, 0)


@slow
@pytest.mark.parametrize("algorithm", OF_RATINGS)
def test_ten_images_tell_new_classes_apart(classifications: TaskSet, algorithm: str) -> None:
    model = trained(algorithm, classifications, 12)
    found = accuracy(model, classifications, 10)
    assert found > 1 / NUM_WAYS + 0.03
    assert found > accuracy(model, classifications, 0) + 0.03
