"""A federation learns what its learner learns; clipped and noised, it gives away what it says."""

import dataclasses
from typing import Any

import pytest
import torch
from learners import LINEAR, make_batch, make_learner

from recmeta.config import parse, to_dict
from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.optimisation_based.federated import (
    Federated,
    FederatedConfig,
    client_of,
)
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.tensors.batch import TaskBatch
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.start import at_start

INNER = MAMLConfig(num_steps=2)


def norm(update: Params) -> float:
    return float(torch.cat([part.flatten() for part in update.values()]).norm())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def federated(**changes: Any) -> tuple[Federated, Params]:
    learner, params = make_learner(INNER, LINEAR)
    config = dataclasses.replace(FederatedConfig(learner=INNER), **changes)
    return Federated(config, learner), params


def test_what_clients_send_is_in_the_mean_the_central_gradient() -> None:
    learner, params = federated()
    batch = make_batch()
    expected, metrics = learner.meta_gradient(params, batch, generator())
    clients = [client_of(batch, number) for number in range(len(batch))]
    sent = [learner.update(params, client, generator()) for client in clients]
    assert sum(loss for _, loss in sent) / len(batch) == pytest.approx(metrics["loss"])
    for name, gradient in expected.items():
        mean = torch.stack([update[name] for update, _ in sent]).mean(0)
        torch.testing.assert_close(mean, gradient)


def test_several_local_steps_are_the_way_that_a_client_went() -> None:
    learner, params = federated(local_steps=3, local_learning_rate=0.05)
    client = client_of(make_batch(), 2)
    found, _ = learner.update(params, client, generator())
    own = params
    for _ in range(3):
        gradient, _ = learner.learner.meta_gradient(own, client, generator())
        own = {name: p - 0.05 * gradient[name] for name, p in own.items()}
    for name, p in params.items():
        torch.testing.assert_close(found[name], (p - own[name]) / 0.15)


def test_no_client_moves_the_sum_by_more_than_the_norm() -> None:
    learner, params = federated(clip_norm=0.01)
    batch = make_batch()
    alone, _ = learner.meta_gradient(params, client_of(batch, 1), generator())
    assert norm(alone) == pytest.approx(0.01)
    together, _ = learner.meta_gradient(params, batch, generator())
    assert norm(together) <= 0.01


def test_a_short_update_is_left_as_it_is() -> None:
    learner, params = federated(clip_norm=1e6)
    unclipped, _ = federated()
    batch = make_batch()
    found, _ = learner.meta_gradient(params, batch, generator())
    expected, _ = unclipped.meta_gradient(params, batch, generator())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_the_noise_is_as_large_as_it_says() -> None:
    noisy, params = federated(clip_norm=2.0, noise_multiplier=3.0)
    plain, _ = federated(clip_norm=2.0)
    batch = make_batch()
    expected, _ = plain.meta_gradient(params, batch, generator())
    differences = []
    for seed in range(20):
        found, _ = noisy.meta_gradient(params, batch, torch.Generator().manual_seed(seed))
        differences += [(found[name] - p).flatten() for name, p in expected.items()]
    noise = torch.cat(differences) * len(batch)
    assert float(noise.std()) == pytest.approx(6.0, rel=0.03)
    assert abs(float(noise.mean())) < 0.2


def test_a_client_alone_is_its_rows_and_no_padding() -> None:
    batch = make_batch()
    client = client_of(batch, 2)
    assert isinstance(client, TaskBatch)
    assert client.support.rows.mask_BR.shape == (1, 2)
    assert client.query.mask_BR.all()


def test_the_clients_learner_is_configured_in_its_place() -> None:
    config = ModelConfig(
        algorithm="federated", learner=FederatedConfig(learner=MAMLConfig(num_steps=7))
    )
    assert parse(ModelConfig, to_dict(config)) == config
    other = {"algorithm": "federated", "learner": {"algorithm": "reptile"}}
    learner = parse(ModelConfig, other).learner
    assert isinstance(learner, FederatedConfig)
    assert type(learner.learner).__name__ == "ReptileConfig"
    with pytest.raises(UserError, match=r"learner\.learner\.num_step"):
        parse(ModelConfig, {"algorithm": "federated", "learner": {"learner": {"num_step": 1}}})


def test_a_federation_starts_as_its_learner_does(task_set: TaskSet) -> None:
    inner = BayesianLinearConfig(num_factors=2)
    alone = ModelConfig(algorithm="bayesian-linear", learner=inner)
    within = ModelConfig(
        algorithm="federated", learner=FederatedConfig(algorithm="bayesian-linear", learner=inner)
    )
    expected, found = (
        at_start(MetaTrainConfig(model=model), task_set, torch.device("cpu")).model.params
        for model in (alone, within)
    )
    assert found.keys() == expected.keys()
    for name, p in expected.items():
        assert torch.equal(found[name], p), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithm": "federated"}, "something else"),
        ({"noise_multiplier": 1.0}, "clip_norm"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"local_steps": 0}, "local_steps"),
        ({"delta": 2.0}, "delta"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FederatedConfig(**change)


def test_only_noise_guarantees_anything() -> None:
    assert FederatedConfig().guarantees(10) == {}
    promised = FederatedConfig(clip_norm=1.0, noise_multiplier=3.730632).guarantees(1)
    assert promised == {"epsilon": pytest.approx(1.0, rel=1e-4), "delta": 1e-5}
