"""Implicit MAML's gradient is that of a solved inner problem, differentiated densely.

Legend: B users, S support rows, R query rows, H inputs of the last layer, and a 1.
"""

from typing import Any

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.optimisation_based.implicit_maml import (
    LEAST,
    ImplicitMAML,
    ImplicitMAMLConfig,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.rounding import assert_equal_but_for_rounding, tolerances

NETWORK = PreferenceConfig(embedding_dim=2, hidden_dims=(4,))
SOLVED = ImplicitMAMLConfig(
    num_steps=2,
    num_conjugate_steps=30,
    proximal_strength=0.7,
    outer_objective="squared",
)


def drawn(task_set: TaskSet, config: ImplicitMAMLConfig) -> tuple[ImplicitMAML, Params, TaskBatch]:
    chosen = ModelConfig(algorithm="implicit-maml", network=NETWORK, learner=config)
    model = Model.untrained(chosen, task_set, torch.device("cpu"))
    assert isinstance(model.learner, ImplicitMAML)
    generator = torch.Generator().manual_seed(1)
    params = {
        name: p.double() + 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in model.learner.init_params(generator).items()
    }
    return model.learner, params, model.batch(task_set.tasks("train").take(np.arange(4)))


def solved_to(learner: ImplicitMAML, params: Params, batch: TaskBatch) -> dict[str, float]:
    """Return by name how far the gradients, and as "loss" the loss, may be from the exact ones."""

    def outcome(params: Params) -> Params:
        gradients, metrics = learner.meta_gradient(params, batch, torch.Generator())
        return {"loss": torch.tensor(metrics["loss"], dtype=torch.float64), **gradients}

    # A residual of r leaves an error of at most r / λ in the weights, which moves the loss and the
    # gradients as a change of the weights does; and one of r, of each user, in λ v itself.
    residual = LEAST**0.5
    moved = residual / learner.config.proximal_strength
    allowed = tolerances(outcome, params, roundings=500, inexact=moved)
    return {name: number + len(batch) * residual for name, number in allowed.items()}


def with_one(x_BRH: torch.Tensor) -> torch.Tensor:
    return torch.cat([x_BRH, torch.ones_like(x_BRH[..., :1])], -1)


def test_on_the_last_layer_it_is_the_gradient_through_the_exact_solution(
    task_set: TaskSet,
) -> None:
    """Whose inner problem is a ridge regression, with a solution to differentiate."""
    learner, params, batch = drawn(task_set, SOLVED)
    gradients, metrics = learner.meta_gradient(params, batch, torch.Generator())
    leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
    features, rows, query = learner.features, batch.support.rows, batch.query
    user_BF = features.users(leaves, batch.support.user, len(batch))
    known_BSH = with_one(features.of(leaves, user_BF, rows))
    asked_BRH = with_one(features.of(leaves, user_BF, query))
    shared_H = torch.cat([leaves[features.weight_name][0], leaves[features.bias_name]])
    losses = []
    for user in range(len(batch)):
        x_SH = known_BSH[user, rows.mask_BR[user]]
        y_S = rows.value_BR[user, rows.mask_BR[user]].double()
        weight = 2 / (len(y_S) + SOLVED.support_prior)
        one_HH = torch.eye(x_SH.shape[1], dtype=torch.float64)
        system_HH = weight * x_SH.T @ x_SH + 0.7 * one_HH
        own_H = torch.linalg.solve(system_HH, weight * x_SH.T @ y_S + 0.7 * shared_H)
        asked = query.mask_BR[user]
        error_R = asked_BRH[user, asked] @ own_H - query.value_BR[user, asked]
        losses.append(error_R.square().mean())
    loss = torch.stack(losses).mean()
    expected = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    expected["loss"] = loss.detach()
    gradients["loss"] = torch.tensor(metrics["loss"], dtype=torch.float64)
    assert_equal_but_for_rounding(gradients, expected, solved_to(learner, params, batch))


def test_on_all_layers_it_solves_the_dense_system(task_set: TaskSet) -> None:
    """λ (H + λ I)⁻¹ g with the whole Hessian, user by user."""
    config = ImplicitMAMLConfig(
        adapt_layers="all",
        num_steps=3,
        num_conjugate_steps=60,
        proximal_strength=5.0,
        outer_objective="squared",
    )
    learner, params, batch = drawn(task_set, config)
    gradients, _ = learner.meta_gradient(params, batch, torch.Generator())
    state = learner.adapt(params, batch.support)
    user_BF = learner.features.users(params, batch.support.user, len(batch))
    support = learner.features.embedded(params, batch.support.rows)
    query = learner.features.embedded(params, batch.query)
    sizes = [params[name].numel() for name in learner.adapted]
    total = torch.zeros(sum(sizes), dtype=torch.float64)
    for user in range(len(batch)):

        def losses(flat: torch.Tensor, user: int = user) -> tuple[torch.Tensor, torch.Tensor]:
            pieces = zip(learner.adapted, flat.split(sizes), strict=True)
            weights = params | {n: piece.view(params[n].shape) for n, piece in pieces}
            outputs = [
                learner.network.forward(
                    weights, user_BF[user], side.embedded_BRF[user], side.statistics_BRD[user]
                )
                for side in (support, query)
            ]
            known, asked = support.mask_BR[user], query.mask_BR[user]
            errors_S = (outputs[0] - support.value_BR[user])[known]
            errors_R = (outputs[1] - query.value_BR[user])[asked]
            inner = errors_S.square().sum() / (len(errors_S) + config.support_prior)
            return inner, errors_R.square().mean() / len(batch)

        flat = torch.cat([state[name][user].flatten() for name in learner.adapted])
        hessian = torch.autograd.functional.hessian(lambda w: losses(w)[0], flat)
        _, pull = torch.autograd.functional.vjp(lambda w: losses(w)[1], flat)
        system = hessian + 5.0 * torch.eye(len(flat), dtype=torch.float64)
        total += 5.0 * torch.linalg.solve(system, pull)
    allowed = solved_to(learner, params, batch)
    for name, wanted in zip(learner.adapted, total.split(sizes), strict=True):
        found = gradients[name].flatten()
        torch.testing.assert_close(found, wanted, rtol=0, atol=allowed[name])


def test_a_solved_problem_does_not_know_the_order_of_its_rows(task_set: TaskSet) -> None:
    """Which a solver that stops early does, as far as its residual: it amplifies rounding."""
    learner, params, batch = drawn(task_set, SOLVED)
    rows = batch.support.rows
    backwards = Rows(*(t.flip(1) for t in vars(rows).values()))
    found, expected = (
        learner.adapt(params, Support(batch.support.user, some)) for some in (backwards, rows)
    )
    # Each way's residual is below the root of LEAST, and no eigenvalue below the proximal strength.
    allowed = 2 * LEAST**0.5 / SOLVED.proximal_strength
    for name in learner.adapted:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=allowed)


def test_steps_and_pull_meet_at_the_shared_weights_without_support(task_set: TaskSet) -> None:
    learner, params, batch = drawn(task_set, ImplicitMAMLConfig(adapt_layers="all"))
    no_rows = Rows(*(t[:, :0] for t in vars(batch.support.rows).values()))
    state = learner.adapt(params, Support(batch.support.user, no_rows))
    for name in learner.adapted:
        assert torch.equal(state[name], params[name].expand_as(state[name]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"proximal_strength": 0.0}, "positive"), ({"inner_objective": "absolute"}, "curvature")],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImplicitMAMLConfig(**wrong)
