"""Reptile's pseudo-gradient is the mean of where users' steps lead, user by user."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.optimisation_based.reptile import Reptile, ReptileConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.tensors.batch import joined
from recmeta.tasks.task_set import TaskSet

NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(5,))


def drawn(task_set: TaskSet, config: ReptileConfig) -> tuple[Model, Reptile, Params]:
    chosen = ModelConfig(algorithm="reptile", network=NETWORK, learner=config)
    model = Model.untrained(chosen, task_set, torch.device("cpu"))
    assert isinstance(model.learner, Reptile)
    generator = torch.Generator().manual_seed(1)
    return (
        model,
        model.learner,
        {
            name: p.double() + 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
            for name, p in model.learner.init_params(generator).items()
        },
    )


@pytest.mark.parametrize("adapt_layers", ["all", "last"])
def test_it_is_the_mean_of_each_users_steps(task_set: TaskSet, adapt_layers: str) -> None:
    """Plain gradient descent on live weights, one user after the other; embeddings stay."""
    config = ReptileConfig(
        num_steps=3, minibatch_share=1.0, adapt_layers=adapt_layers, support_prior=0.0
    )
    model, learner, params = drawn(task_set, config)
    batch = model.batch(task_set.tasks("train").take(np.arange(6)))
    gradients, metrics = learner.meta_gradient(params, batch, torch.Generator())
    rows = joined(batch.support.rows, batch.query)
    expected = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for user in range(6):
        one = {name: t[user : user + 1] for name, t in batch.support.user.items()}
        kept = rows.mask_BR[user]
        his = dataclasses.replace(
            rows, **{n: t[user : user + 1, kept] for n, t in vars(rows).items()}
        )
        weights = {name: p.clone() for name, p in params.items()}
        for _ in range(3):
            leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
            user_BF = learner.features.users(leaves, one, 1)
            x_BRH = learner.features.of(leaves, user_BF, his)
            output_BR = learner.features.output(leaves, x_BRH, his)
            loss = (output_BR - his.value_BR).square().mean()
            losses.append(float(loss.detach()))
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            for (name, p), gradient in zip(weights.items(), found, strict=True):
                if gradient is not None:
                    expected[name] += gradient / (6 * 3)
                    if name in learner.adapted:
                        weights[name] = p - config.inner_learning_rate * gradient
    assert metrics["loss"] == pytest.approx(np.mean(losses))
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_each_step_draws_its_own_rows(task_set: TaskSet) -> None:
    model, learner, params = drawn(task_set, ReptileConfig(num_steps=2))
    batch = model.batch(task_set.tasks("train").take(np.arange(6)))
    seeds = [torch.Generator().manual_seed(s) for s in (1, 1, 2)]
    first, same, other = (learner.meta_gradient(params, batch, s)[1]["loss"] for s in seeds)
    assert first == same
    assert first != other


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"minibatch_share": 0.0}])
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReptileConfig(**wrong)
