"""The two inner loops are one: weights per user give what pairs give, in any shape and alone."""

import dataclasses

import pytest
import torch
from learners import CONFIGS, NETWORKS, QUERY, make_batch, make_learner, outcome
from maml_tasks import NUM_ITEMS, make_rows

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.inner_loop.by_pairs import PairLoop
from recmeta.metalearn.inner_loop.by_weights import WeightLoop
from recmeta.metalearn.inner_loop.steps import RATES
from recmeta.metalearn.learner import Params
from recmeta.metalearn.tensors import grouping
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.testing.rounding import assert_equal_but_for_rounding, tolerances

ROUNDINGS = 2_000
"""Sums over up to five hundred rows and twenty features, in three layers, forth and back through
four evaluations of them."""


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

    def results(learner: MAML, params: Params) -> Params:
        with torch.no_grad():
            state = learner.adapt(params, batch.support)
            asked = {"query": batch.query, "catalogue": all_items()}
            means = {n: learner.predict(params, state, rows).mean_BR for n, rows in asked.items()}
        return {**outcome(learner, params, batch), **means}

    allowed = tolerances(lambda p: results(learner, p), params, roundings=ROUNDINGS)
    assert_equal_but_for_rounding(results(other, params), results(learner, params), allowed)


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

    def results(params: Params, batch: TaskBatch) -> Params:
        with torch.no_grad():
            state = learner.adapt(params, batch.support)
            mean_BR = learner.predict(params, state, batch.query).mean_BR
        return {**outcome(learner, params, batch), "mean": mean_BR}

    together = results(params, batch)
    allowed = tolerances(lambda p: results(p, batch), params, roundings=ROUNDINGS)
    mean_BR = together.pop("mean")
    parts = [results(params, user(batch, b)) for b in range(len(QUERY))]
    for b, length in enumerate(QUERY):
        alone_R = parts[b].pop("mean")[0]
        torch.testing.assert_close(alone_R, mean_BR[b, :length], rtol=0, atol=allowed["mean"])
    averaged = {name: torch.stack([part[name] for part in parts]).mean(0) for name in together}
    assert_equal_but_for_rounding(averaged, together, allowed)


@pytest.mark.parametrize("network", ["normalised", "factors", "both, one layer", "both, not wide"])
@pytest.mark.parametrize("second_order", [True, False])
def test_any_network_adapts_as_a_loop_over_users_does(network: str, second_order: bool) -> None:
    config = MAMLConfig(num_steps=2, second_order=second_order, inner_learning_rate=0.05)
    learner, params = make_learner(config, NETWORKS[network])
    assert isinstance(learner.loop, WeightLoop)
    batch = make_batch()
    expected, expected_loss = gradient_by_loop(learner, params, batch)
    expected["loss"] = torch.tensor(expected_loss, dtype=torch.float64)
    found = outcome(learner, params, batch)
    allowed = tolerances(lambda p: outcome(learner, p, batch), params, roundings=ROUNDINGS)
    assert_equal_but_for_rounding(found, expected, allowed)
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


@pytest.mark.parametrize("config", ["three steps", "last layer"])
@pytest.mark.parametrize("network", ["linear", "both, not wide"])
def test_any_number_of_threads_gives_the_same_bits(
    network: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, params = make_learner(CONFIGS[config], NETWORKS[network])
    batch = make_batch()
    monkeypatch.setattr(grouping, "MOST_ROWS", 1)  # a group for each user
    before = torch.get_num_threads()
    found = []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            found.append(learner.meta_gradient(params, batch, torch.Generator()))
    finally:
        torch.set_num_threads(before)
    (expected, expected_metrics), *others = found
    for gradients, metrics in others:
        assert metrics == expected_metrics
        for name, gradient in gradients.items():
            assert torch.equal(gradient, expected[name]), name
