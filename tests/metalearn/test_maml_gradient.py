"""The batched meta-gradient against a loop over users, finite differences and closed forms."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from learners import outcome
from maml_oracle import Oracle
from maml_tasks import (
    ITEM_FIELDS,
    QUERY_LENGTHS,
    SUPPORT_LENGTHS,
    USER_FIELDS,
    item_features,
    make_batch,
)

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.meta_sgd import MetaSGDConfig
from recmeta.metalearn.inner_loop.steps import RATES
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork
from recmeta.metalearn.tensors.batch import Rows, Support
from recmeta.testing.rounding import assert_equal_but_for_rounding, tolerances

GRADED = ("squared", "absolute")
ROUNDINGS = 500
"""Sums over up to a dozen rows and twenty features, in three layers, forth and back through four
evaluations of them."""


def make(
    config: MAMLConfig, network: PreferenceConfig, graded: bool
) -> tuple[MAML, Oracle, dict[str, torch.Tensor]]:
    """Return the learner, the loop that it must equal, and float64 parameters."""
    generator = torch.Generator().manual_seed(11)
    shapes = PreferenceNetwork(network, USER_FIELDS, ITEM_FIELDS, graded=graded)
    features = item_features(generator)
    learner = MAML(config, shapes, features, "rating" if graded else "implicit")
    oracle = Oracle(
        config=config,
        inner=config.inner_objective or ("squared" if graded else "bce"),
        outer=config.outer_objective or ("absolute" if graded else "bce"),
        user_fields=USER_FIELDS,
        item_fields=ITEM_FIELDS,
        item_features=features,
        num_layers=len(network.hidden_dims) + 1,
        wide=network.wide,
        starts_from_item_mean=graded and network.start_from_item_mean,
    )
    params = {
        # Fresh biases are 0 and the last layer nearly so: move off such special points.
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in learner.init_params(generator).items()
    }
    return learner, oracle, params


DEEP = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 5), wide=False, start_from_item_mean=True)
WIDE = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 5), wide=True)


def assert_equals_loop(config: MAMLConfig, graded: bool, network: PreferenceConfig = DEEP) -> None:
    learner, oracle, params = make(config, network, graded)
    batch = make_batch(graded)
    expected, expected_loss = oracle.meta_gradient(params, batch)
    expected["loss"] = torch.tensor(expected_loss, dtype=torch.float64)
    gradients = outcome(learner, params, batch)
    allowed = tolerances(lambda p: outcome(learner, p, batch), params, roundings=ROUNDINGS)
    assert_equal_but_for_rounding(gradients, expected, allowed)
    if config.learn_rates and config.num_steps:
        rates = [name for name in gradients if name.startswith("inner_rate")]
        assert all(gradients[name].any() for name in rates)
        assert (RATES in rates) == (config.rates_per == "layer")


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("learn_rates", [True, False])
@pytest.mark.parametrize("adapt_layers", ["all", "last"])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize(("support_prior", "network"), [(0.0, DEEP), (3.0, WIDE)])
def test_the_gradient_equals_a_loop_over_users(
    num_steps: int,
    learn_rates: bool,
    adapt_layers: str,
    second_order: bool,
    support_prior: float,
    network: PreferenceConfig,
) -> None:
    config = MAMLConfig(
        num_steps=num_steps,
        learn_rates=learn_rates,
        adapt_layers=adapt_layers,
        second_order=second_order,
        support_prior=support_prior,
        inner_learning_rate=0.05,
    )
    assert_equals_loop(config, graded=True, network=network)


@pytest.mark.parametrize(
    ("inner", "outer"),
    [*itertools.product(GRADED, GRADED), *itertools.product(("bce", "softmax"), repeat=2)],
)
@pytest.mark.parametrize("second_order", [True, False])
def test_the_gradient_equals_a_loop_for_every_objective(
    inner: str, outer: str, second_order: bool
) -> None:
    config = MAMLConfig(
        num_steps=2, inner_objective=inner, outer_objective=outer, second_order=second_order
    )
    assert_equals_loop(config, graded=inner in GRADED)


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize("adapt_layers", ["all", "last"])
def test_the_gradient_equals_a_loop_with_a_rate_per_parameter(
    num_steps: int, adapt_layers: str
) -> None:
    config = MetaSGDConfig(num_steps=num_steps, adapt_layers=adapt_layers, inner_learning_rate=0.05)
    assert_equals_loop(config, graded=True, network=WIDE)


def test_without_steps_the_gradient_is_plain_training() -> None:
    assert_equals_loop(MAMLConfig(num_steps=0), graded=True)


@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_gradient_equals_finite_differences(num_steps: int) -> None:
    config = MAMLConfig(num_steps=num_steps, outer_objective="squared")
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
    learner, _, params = make(config, network, graded=True)
    batch = make_batch(graded=True)
    gradients, _ = learner.meta_gradient(params, batch, torch.Generator())

    def loss(moved: dict[str, torch.Tensor]) -> float:
        return learner.meta_gradient(moved, batch, torch.Generator())[1]["loss"]

    step = 1e-6
    for name, p in params.items():
        for place in range(0, p.numel(), max(1, p.numel() // 4)):
            shift = torch.zeros_like(p).view(-1)
            shift[place] = step
            above = loss({**params, name: p + shift.view_as(p)})
            below = loss({**params, name: p - shift.view_as(p)})
            slope = (above - below) / (2 * step)
            assert gradients[name].view(-1)[place].item() == pytest.approx(slope, abs=1e-7), name


def test_first_order_differs_from_second_order() -> None:
    batch = make_batch(graded=True)
    network = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))
    found = []
    for second_order in (True, False):
        learner, _, params = make(MAMLConfig(second_order=second_order), network, graded=True)
        found.append(learner.meta_gradient(params, batch, torch.Generator())[0])
    assert not torch.allclose(found[0]["layer.0.weight"], found[1]["layer.0.weight"])


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("support_prior", [0.0, 3.0])
def test_a_linear_model_adapts_by_formula(num_steps: int, support_prior: float) -> None:
    """w_K = (I − αH)^K w + α Σ_k (I − αH)^k c, with H and c of least squares."""
    rate = 0.03
    config = MAMLConfig(
        num_steps=num_steps,
        learn_rates=False,
        inner_learning_rate=rate,
        support_prior=support_prior,
    )
    network = PreferenceConfig(embedding_dim=2, hidden_dims=(), start_from_item_mean=False)
    learner, _, params = make(config, network, graded=True)
    batch = make_batch(graded=True)

    def predicted(params: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state = learner.adapt(params, batch.support)
        return {"mean": learner.predict(params, state, batch.query).mean_BR.detach()}

    predicted_BR = predicted(params)["mean"].numpy()
    allowed = tolerances(predicted, params, roundings=ROUNDINGS)["mean"]

    shapes = learner.network

    def design(rows: Rows, b: int) -> np.ndarray:
        keep = rows.mask_BR[b]
        user = shapes.embed_users(params, batch.support.user, len(batch))[b]
        item_N = rows.item_BR[b][keep]
        item = shapes.embed_items(params, learner.item_features, item_N).tables[0]
        item = torch.cat([item, rows.statistics_BRD[b][keep]], 1)
        ones = torch.ones(len(item), 1, dtype=torch.float64)
        return torch.cat([user.expand(len(item), -1), item, ones], 1).numpy()

    for b, length in enumerate(SUPPORT_LENGTHS):
        x = design(batch.support.rows, b)
        r = batch.support.rows.value_BR[b, :length].double().numpy()
        w = torch.cat([params["layer.0.weight"][0], params["layer.0.bias"]]).numpy()
        if length:
            hessian = 2 * x.T @ x / (length + support_prior)
            target = 2 * x.T @ r / (length + support_prior)
            shrink = np.eye(len(w)) - rate * hessian
            powers = [np.linalg.matrix_power(shrink, k) for k in range(num_steps + 1)]
            w = powers[num_steps] @ w + rate * sum(powers[:num_steps]) @ target
        expected = design(batch.query, b) @ w
        got = predicted_BR[b, : QUERY_LENGTHS[b]]
        np.testing.assert_allclose(got, expected, rtol=0, atol=allowed)


def test_support_rows_of_other_values_move_only_their_user() -> None:
    learner, _, params = make(MAMLConfig(num_steps=2), PreferenceConfig(), graded=True)
    batch = make_batch(graded=True)
    rows = batch.support.rows
    value_BR = rows.value_BR.clone()
    value_BR[3] += 1.0
    changed = Support(batch.support.user, dataclasses.replace(rows, value_BR=value_BR))
    with torch.no_grad():
        before = learner.predict(params, learner.adapt(params, batch.support), batch.query).mean_BR
        after = learner.predict(params, learner.adapt(params, changed), batch.query).mean_BR
    moved = (before != after).any(1).tolist()
    assert moved == [False, False, False, True, False]
