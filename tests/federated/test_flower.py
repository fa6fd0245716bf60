"""A federation in Flower's simulation, where Flower is installed; its halves, wherever."""

import sys
from pathlib import Path

import pytest
import torch

from recmeta.errors import UserError
from recmeta.federated.flower import FlowerConfig, client_update, simulate
from recmeta.metalearn.algorithms.optimisation_based.federated import Federated, FederatedConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.optimiser import OuterOptimiser
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder


def config(task_set: TaskSet, epochs: int = 1) -> FlowerConfig:
    num_clients = task_set.spec.num_tasks["train"]
    training = TrainingConfig(epochs=epochs, learning_rate=1e-2, weight_decay=0.0)
    episodes = EpisodeConfig(batch_size=num_clients, resample=False, max_query=1_000)
    return FlowerConfig(training=training, episodes=episodes)


@pytest.fixture
def task_set(tmp_path: Path) -> TaskSet:
    log = generate(SyntheticConfig(num_users=16, num_items=20, rows_per_user=(4, 10)), seed=0)
    return write_task_set(log, Folder.at(tmp_path / "tasks"))


@pytest.fixture
def model(task_set: TaskSet, tmp_path: Path) -> Model:
    """A model of clients that learn MAML, in the folder `model`."""
    learner = FederatedConfig(learner=MAMLConfig(num_steps=1), clip_norm=0.5)
    network = PreferenceConfig(embedding_dim=4, hidden_dims=(8,), use_statistics=False)
    chosen = ModelConfig(algorithm="federated", learner=learner, network=network)
    model = Model.untrained(chosen, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    model.save(Folder.at(tmp_path / "model"))
    return model


def test_what_clients_send_adds_up_to_the_central_step(
    model: Model, task_set: TaskSet, tmp_path: Path
) -> None:
    assert isinstance(model.learner, Federated)
    folders = str(tmp_path / "model"), str(tmp_path / "tasks")
    train = task_set.tasks("train")
    sent = [
        client_update(*folders, model.params, config(task_set), client=n, epoch=1)
        for n in range(len(train))
    ]
    generator = torch.Generator().manual_seed(0)
    found = model.learner.aggregate((update for update, _ in sent), generator)
    expected, _ = model.learner.meta_gradient(model.params, model.batch(train), generator)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_without_flower_it_is_said_where_it_goes(
    model: Model, tmp_path: Path, task_set: TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flwr.serverapp", None)
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(UserError, match=r"requirements-flower\.txt"):
        simulate(str(tmp_path / "model"), str(tmp_path / "tasks"), config(task_set))


def test_a_round_of_all_clients_is_a_step_of_the_trainer(
    model: Model, task_set: TaskSet, tmp_path: Path
) -> None:
    pytest.importorskip(
        "flwr", reason="Flower needs an environment of its own: requirements-flower.txt"
    )
    rounds = simulate(str(tmp_path / "model"), str(tmp_path / "tasks"), config(task_set))
    assert [r.number for r in rounds] == [1]
    batch = model.batch(task_set.tasks("train"))
    generator = torch.Generator().manual_seed(0)
    gradients, metrics = model.learner.meta_gradient(model.params, batch, generator)
    OuterOptimiser(model.params, learning_rate=1e-2, weight_decay=0.0, clip_norm=1.0).step(
        gradients
    )
    assert rounds[0].train_loss == pytest.approx(metrics["loss"], rel=1e-5)
    trained = Model.load(Folder.at(tmp_path / "model"))
    for name, p in model.params.items():
        torch.testing.assert_close(trained.params[name], p, rtol=1e-4, atol=1e-5)
