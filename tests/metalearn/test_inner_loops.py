"""The two inner loops are one: weights per user give what pairs give, in any shape and alone."""

import dataclasses

import pytest
import torch
from test_maml_gradient import ITEM_FIELDS, NUM_ITEMS, USER_FIELDS, item_features, make_rows

from recmeta.metalearn.algorithms.maml import MAML, MAMLConfig
from recmeta.metalearn.batch import Rows, Support, TaskBatch
from recmeta.metalearn.inner_loop.by_pairs import PairLoop
from recmeta.metalearn.inner_loop.by_weights import WeightLoop
from recmeta.metalearn.inner_loop.steps import RATES
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.interacting import InteractingNetwork
from recmeta.metalearn.networks.preference import PreferenceNetwork

SUPPORT = (0, 1, 2, 500)
"""Rows; two are one item twice, and five hundred are of ten items."""
QUERY = (3, 1, 12, 1)
LINEAR = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 5), start_from_item_mean=True)
NETWORKS = {
    "linear": LINEAR,
    "not wide": dataclasses.replace(LINEAR, wide=False),
    "one layer": dataclasses.replace(LINEAR, hidden_dims=()),
    "normalised": dataclasses.replace(LINEAR, layer_norm=True),
    "factors": dataclasses.replace(LINEAR, num_factors=4),
    "both, one layer": dataclasses.replace(LINEAR, layer_norm=True, num_factors=2, hidden_dims=()),
    "both, not wide": dataclasses.replace(LINEAR, layer_norm=True, num_factors=2, wide=False),
}
CONFIGS = {
    "three steps": MAMLConfig(num_steps=3, inner_learning_rate=0.05),
    "first order": MAMLConfig(num_steps=2, second_order=False),
    "fixed rates": MAMLConfig(num_steps=2, learn_rates=False, support_prior=0.0),
    "last layer": MAMLConfig(num_steps=2, adapt_layers="last"),
    "no steps": MAMLConfig(num_steps=0),
}


def make_learner(config: MAMLConfig, network: PreferenceConfig) -> tuple[MAML, Params]:
    """Return the learner and float64 parameters, off the special points of fresh ones."""
    generator = torch.Generator().manual_seed(7)
    kind = PreferenceNetwork if network.is_linear else InteractingNetwork
    shapes = kind(network, USER_FIELDS, ITEM_FIELDS, graded=True)
    learner = MAML(config, shapes, item_features(generator), "rating")
    fresh = learner.init_params(generator)
    return learner, {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in fresh.items()
    }


def make_batch(seed: int = 0) -> TaskBatch:
    generator = torch.Generator().manual_seed(seed)
    num_users = len(SUPPORT)
    users = {
        "group": torch.randint(0, 4, (num_users,), generator=generator),
        "hobbies": torch.randint(0, 4, (num_users, 3), generator=generator),
        "age": torch.randn(num_users, generator=generator),
    }
    support = make_rows(SUPPORT, True, generator)
    support.item_BR[2, :2] = 4
    return TaskBatch(Support(users, support), make_rows(QUERY, True, generator))


def forced(learner: MAML) -> MAML:
    """Return the same learner, adapting through `torch.func` whatever its network offers."""
    other = MAML(learner.config, learner.network, learner.item_features, "rating")
    assert isinstance(learner.loop, PairLoop)
    other.loop = WeightLoop(learner.network, learner.loop.steps)
    return other


def user(batch: TaskBatch, b: int) -> TaskBatch:
    """Return one user's task, padded as little as it can be."""

    def one(rows: Rows) -> Rows:
        length = int(rows.mask_BR[b].sum())
        return Rows(*(t[b : b + 1, :length] for t in vars(rows).values()))

    own = {name: t[b : b + 1] for name, t in batch.support.user.items()}
    return TaskBatch(Support(own, one(batch.support.rows)), one(batch.query))


@pytest.mark.parametrize("network", ["linear", "not wide", "one layer"])
@pytest.mark.parametrize("config", CONFIGS)
def test_weights_per_user_give_what_pairs_give(config: str, network: str) -> None:
    learner, params = make_learner(CONFIGS[config], NETWORKS[network])
    other, batch = forced(learner), make_batch()
    expected, expected_metrics = learner.meta_gradient(params, batch, torch.Generator())
    found, metrics = other.meta_gradient(params, batch, torch.Generator())
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"], rel=1e-10)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        for rows in (batch.query, all_items()):
            torch.testing.assert_close(
                other.predict(params, other.adapt(params, batch.support), rows).mean_BR,
                learner.predict(params, learner.adapt(params, batch.support), rows).mean_BR,
                rtol=1e-10,
                atol=1e-10,
            )


def all_items() -> Rows:
    """Return every item, for all users at once."""
    generator = torch.Generator().manual_seed(1)
    rows = make_rows((NUM_ITEMS,), True, generator)
    return dataclasses.replace(rows, item_BR=torch.arange(NUM_ITEMS)[None])


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_user_alone_is_the_user_among_others(network: str, config: str) -> None:
    learner, params = make_learner(CONFIGS[config], NETWORKS[network])
    batch = make_batch()
    with torch.no_grad():
        together = learner.predict(params, learner.adapt(params, batch.support), batch.query)
        for b, length in enumerate(QUERY):
            one = user(batch, b)
            alone = learner.predict(params, learner.adapt(params, one.support), one.query).mean_BR
            torch.testing.assert_close(
                alone[0], together.mean_BR[b, :length], rtol=1e-12, atol=1e-12
            )
    total, _ = learner.meta_gradient(params, batch, torch.Generator())
    parts = [
        learner.meta_gradient(params, user(batch, b), torch.Generator())[0]
        for b in range(len(QUERY))
    ]
    for name, gradient in total.items():
        mean = torch.stack([part[name] for part in parts]).mean(0)
        torch.testing.assert_close(mean, gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("network", ["normalised", "factors", "both, one layer", "both, not wide"])
@pytest.mark.parametrize("second_order", [True, False])
def test_any_network_adapts_as_a_loop_over_users_does(network: str, second_order: bool) -> None:
    config = MAMLConfig(num_steps=2, second_order=second_order, inner_learning_rate=0.05)
    learner, params = make_learner(config, NETWORKS[network])
    assert isinstance(learner.loop, WeightLoop)
    batch = make_batch()
    expected, expected_loss = gradient_by_loop(learner, params, batch)
    found, metrics = learner.meta_gradient(params, batch, torch.Generator())
    assert metrics["loss"] == pytest.approx(expected_loss, rel=1e-10)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10, msg=name)
    assert found[RATES].abs().sum() > 0


def gradient_by_loop(learner: MAML, params: Params, batch: TaskBatch) -> tuple[Params, float]:
    """Return the gradient and loss out of one user after the other, with autograd alone."""
    config, network = learner.config, learner.network
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    losses = []
    for b in range(len(batch)):
        one = user(batch, b)
        user_F = network.embed_users(leaves, one.support.user, 1)[0]

        def outputs(rows: Rows, weights: Params, user_F: torch.Tensor = user_F) -> torch.Tensor:
            items = network.embed_items(leaves, learner.item_features, rows.item_BR[0])
            past = rows.statistics_BRD[0].double()
            return network.forward(weights, user_F, items.tables[0], past)

        weights = {name: p for name, p in leaves.items() if name.startswith("layer.")}
        rows = one.support.rows
        num_rows = rows.mask_BR.shape[1]
        for step in range(config.num_steps if num_rows else 0):
            errors = (outputs(rows, weights) - rows.value_BR[0]) ** 2
            inner = errors.sum() / (num_rows + config.support_prior)
            found = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            for (name, p), g in zip(list(weights.items()), found, strict=True):
                g = g if config.second_order else g.detach()
                weights[name] = p - leaves[RATES][step, int(name.split(".")[1])] * g
        errors = (outputs(one.query, weights) - one.query.value_BR[0]).abs()
        losses.append(errors.mean())
    loss = torch.stack(losses).mean()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True)), loss.item()
