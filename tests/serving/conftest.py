"""A briefly trained model over a small synthetic log."""

import pytest
import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder


@pytest.fixture(scope="session")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=80, num_items=30, rows_per_user=(4, 12)), seed=2)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(scope="session")
def model(task_set: TaskSet) -> Model:
    network = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))
    model = Model.untrained(ModelConfig(network=network), task_set, torch.device("cpu"))
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        episodes=EpisodeConfig(),
        config=TrainingConfig(epochs=2),
        seed=0,
    )
    return model


@pytest.fixture(scope="session")
def implicit_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = SyntheticConfig(num_users=40, num_items=20, rows_per_user=(4, 8), objective="implicit")
    log = generate(config, seed=3)
    task_set = write_task_set(log, Folder.at(tmp_path_factory.mktemp("implicit")))
    model = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    return model
