"""What learners that adapt by a forward pass share, against the same written out row by row."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from amortised_tasks import known_rows, make
from maml_tasks import make_batch

from recmeta.metalearn.algorithms.model_based.latent_np import LatentNPConfig
from recmeta.metalearn.heads.median import MedianOfLevels
from recmeta.metalearn.inner_loop.amortised import Known
from recmeta.tasks.task_set import Objective

MEAN = LatentNPConfig(width=6, latent_dim=2, estimate="mean", num_levels=5)
MEDIAN = dataclasses.replace(MEAN, estimate="median")


@pytest.mark.parametrize("prior_strength", [0.0, 0.25, 2.0])
def test_an_average_is_shrunk_as_if_by_so_many_more_rows(prior_strength: float) -> None:
    learner, _ = make(MEAN)
    known = known_rows(learner, (0, 1, 3))
    found_BH = known.average(known.token_BRH, prior_strength)
    for user, rows_RH in enumerate(known.token_BRH):
        own = [
            row_H for row_H, is_there in zip(rows_RH, known.mask_BR[user], strict=True) if is_there
        ]
        weight = len(own) + prior_strength
        expected_H = sum(own, torch.zeros(6, dtype=torch.float64)) / (weight or 1.0)
        torch.testing.assert_close(found_BH[user], expected_H)
    ones = known.average(torch.ones_like(known.token_BRH[..., :1]), 0.25)
    torch.testing.assert_close(ones[:, 0], torch.tensor([0.0, 0.8, 3 / 3.25], dtype=torch.float64))


@torch.no_grad()
def test_a_token_adds_what_user_item_and_past_are_worth() -> None:
    learner, params = make(MEAN)
    batch = make_batch(graded=True)
    rows = batch.query
    user_BF = learner.network.embed_users(params, batch.support.user, len(batch))
    embedded = learner._embed(params, learner.item_features, [rows.item_BR])[0]
    found_BRH = learner._tokens(params, user_BF, embedded, rows).token_BRH
    for user in range(len(batch)):
        for row in range(rows.item_BR.shape[1]):
            item_U = rows.item_BR[user, row][None]
            item_F = learner.network.embed_items(params, learner.item_features, item_U).tables[0][0]
            total_H = params["token.user.weight"] @ user_BF[user] + params["token.user.bias"]
            total_H = total_H + params["token.item.weight"] @ item_F
            past_D = rows.statistics_BRD[user, row].double()
            total_H = total_H + params["token.past.weight"] @ past_D
            torch.testing.assert_close(found_BRH[user, row], total_H.clamp(min=0))


@pytest.mark.parametrize("objective", ["rating", "implicit"])
@pytest.mark.parametrize("config", [MEAN, MEDIAN], ids=["mean", "median"])
@torch.no_grad()
def test_a_prediction_is_what_was_expected_and_what_the_support_adds(
    config: LatentNPConfig, objective: Objective
) -> None:
    learner, params = make(config, objective)
    batch = make_batch(graded=objective == "rating")
    state = learner.adapt(params, batch.support)
    found = learner.predict(params, state, batch.query)
    embedded = learner._embed(params, learner.item_features, [batch.query.item_BR])[0]
    asked = learner._tokens(params, state["user"], embedded, batch.query)
    shift_BR, log_spread_BR = learner.decode(params, state, asked)
    mean_BR = asked.expected_BR + shift_BR
    if objective == "implicit":
        assert found.spread_BR is None
        assert torch.equal(found.mean_BR, mean_BR)
        return
    spread_BR = log_spread_BR.clamp(-3, 3).exp()
    expected_BR = mean_BR
    if config.estimate == "median":
        expected_BR = MedianOfLevels(-2.0, 2.0, 5).of(params, mean_BR, spread_BR)
        assert not torch.equal(expected_BR, mean_BR)
    assert found.spread_BR is not None
    torch.testing.assert_close(found.spread_BR, spread_BR)
    torch.testing.assert_close(found.mean_BR, expected_BR)


@torch.no_grad()
def test_the_median_pays_for_its_absolute_error_and_the_mean_does_not() -> None:
    for config in (MEAN, MEDIAN):
        learner, params = make(config)
        known: Known = known_rows(learner, (0, 2, 5))
        shift_BR, log_spread_BR = learner.decode(params, learner.read(params, known), known)
        found_B = learner.absolute_error(params, (shift_BR, log_spread_BR), known)
        if config is MEAN:
            assert found_B.tolist() == [0.0, 0.0, 0.0]
            continue
        spread_BR = log_spread_BR.clamp(-3, 3).exp()
        median_BR = MedianOfLevels(-2.0, 2.0, 5).of(params, known.expected_BR + shift_BR, spread_BR)
        for user in range(3):
            own = known.mask_BR[user]
            if own.any():
                error = F.l1_loss(median_BR[user, own], known.value_BR[user, own])
                torch.testing.assert_close(found_B[user], error)
        assert found_B[0] == 0


@pytest.mark.parametrize("config", [MEAN, MEDIAN], ids=["mean", "median"])
def test_fresh_parameters_come_out_of_the_generator_alone(config: LatentNPConfig) -> None:
    learner, _ = make(config)
    drawn = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        drawn.append(learner.init_params(torch.Generator().manual_seed(0)))
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    levels = [name for name in drawn[0] if name not in make(MEAN)[1]]
    assert bool(levels) == (config is MEDIAN)
