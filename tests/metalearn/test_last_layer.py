"""The last layer starts at the ridge regression on what it reads."""

import dataclasses

import pytest
import torch

from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.starts.last_layer import reads_linearly, start_last_layer
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.start import at_start

RIDGE = 3.0
WIDE = PreferenceConfig(embedding_dim=4, hidden_dims=(6,))


@pytest.mark.parametrize(
    "network",
    [
        WIDE,
        PreferenceConfig(embedding_dim=4, hidden_dims=(6, 5), wide=False),
        PreferenceConfig(embedding_dim=4, hidden_dims=(), use_statistics=False),
    ],
)
def test_nothing_else_fits_the_rows_better(task_set: TaskSet, network: PreferenceConfig) -> None:
    """The gradient of squared errors and ridge penalty vanishes there, and nowhere near."""
    config = ModelConfig(network=network, learner=MAMLConfig(num_steps=0))
    model = Model.untrained(config, task_set, torch.device("cpu"))
    fresh = model.learner.init_params(torch.Generator().manual_seed(0))
    tasks = task_set.tasks("train")
    started = start_last_layer(model, fresh, tasks, RIDGE)
    last = model.network.num_layers - 1
    names = [f"layer.{last}.weight", f"layer.{last}.bias"]
    assert all(started[n] is fresh[n] for n in fresh if n not in names)

    def gradient(params: dict[str, torch.Tensor]) -> torch.Tensor:
        leaves = {n: p.double().requires_grad_(n in names) for n, p in params.items()}
        batch = model.batch(tasks)
        total = RIDGE * leaves[names[0]].square().sum()
        state = model.learner.adapt(leaves, batch.support)
        for rows in (batch.support.rows, batch.query):
            left = model.learner.predict(leaves, state, rows).mean_BR - rows.value_BR
            total = total + (left * rows.mask_BR).square().sum()
        found = torch.autograd.grad(total, [leaves[n] for n in names])
        return torch.cat([g.reshape(-1) for g in found])

    assert gradient(started).abs().max() < 1e-2
    assert gradient(fresh).abs().max() > 1


def test_other_networks_and_learners_have_none(task_set: TaskSet) -> None:
    def reads(config: ModelConfig) -> bool:
        model = Model.untrained(config, task_set, torch.device("cpu"))
        return reads_linearly(model, model.learner.init_params(torch.Generator().manual_seed(0)))

    assert reads(ModelConfig(network=WIDE))
    assert not reads(ModelConfig(algorithm="bayesian-linear"))
    assert not reads(ModelConfig(network=PreferenceConfig(layer_norm=True)))


def test_training_begins_there_where_it_is_asked_for(task_set: TaskSet) -> None:
    config = MetaTrainConfig(model=ModelConfig(network=WIDE))
    asked = dataclasses.replace(config, last_layer_ridge=10.0)
    plain, begun = (at_start(c, task_set, torch.device("cpu")).model for c in (config, asked))
    train = task_set.tasks("train")
    expected = start_last_layer(plain, plain.params, train, 10.0)
    for name, p in begun.params.items():
        torch.testing.assert_close(p, expected[name])
