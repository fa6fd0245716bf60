"""The latent neural process and the auto-encoder: their bounds, their priors and their spreads."""

import math

import pytest
import torch
from amortised_tasks import LENGTHS, known_rows, make

from recmeta.metalearn.algorithms.model_based.conditional_vae import (
    ConditionalVAE,
    ConditionalVAEConfig,
)
from recmeta.metalearn.algorithms.model_based.latent_np import LatentNP, LatentNPConfig
from recmeta.metalearn.heads.gaussians import DiagonalGaussian
from recmeta.metalearn.inner_loop.amortised import AmortisedConfig, Known, Tokens
from recmeta.metalearn.learner import Params

CONFIGS = [
    LatentNPConfig(width=6, latent_dim=2, num_memories=3, estimate="mean"),
    ConditionalVAEConfig(width=6, latent_dim=2, divergence_weight=1.0, estimate="mean"),
]
NUM_DRAWS = 20_000


def log_likelihood(
    learner: LatentNP | ConditionalVAE,
    params: Params,
    state: dict[str, torch.Tensor],
    latent_NZ: torch.Tensor,
    rows: Known,
) -> torch.Tensor:
    """Return log p(rows | z), (N,), of one user for many latents."""
    many = {name: t.expand(len(latent_NZ), *t.shape[1:]) for name, t in state.items()}
    if isinstance(learner, LatentNP):
        token_NRH = rows.token_BRH.expand(len(latent_NZ), -1, -1)
        asked = Tokens(token_NRH, rows.expected_BR)
        shift, log_spread = learner._run(params, latent_NZ, many, asked)
    else:
        shift, log_spread = learner._decode(params, latent_NZ, rows)
    noise = torch.distributions.Normal(rows.expected_BR + shift, log_spread.clamp(-3, 3).exp())
    return noise.log_prob(rows.value_BR).sum(1)


@pytest.mark.parametrize("config", CONFIGS, ids=["latent-np", "conditional-vae"])
@torch.no_grad()
def test_the_loss_bounds_the_evidence(config: AmortisedConfig) -> None:
    """In the mean over draws, and tightly from neither side: −loss ≤ log ∫ p(rows | z) p(z) dz."""
    learner, params = make(config)
    assert isinstance(learner, LatentNP | ConditionalVAE)
    support, query = known_rows(learner, (3,)), known_rows(learner, (4,))
    generator, name_B = torch.Generator().manual_seed(1), torch.arange(len(query.user_BF))
    draws = [
        float(learner.task_loss(params, support, query, name_B, generator).sum())
        for _ in range(500)
    ]
    if isinstance(learner, LatentNP):
        rows, prior = query, learner.latent(params, support)
    else:
        rows, prior = support.joined(query), learner.prior(params, support.user_BF)
    num_rows = rows.mask_BR.shape[1]
    noise = torch.randn((NUM_DRAWS, 2), generator=generator, dtype=torch.float64)
    each_N = log_likelihood(
        learner, params, learner.read(params, support), prior.sample(noise), rows
    )
    evidence = float(each_N.logsumexp(0) - math.log(NUM_DRAWS))
    bound = -num_rows * (sum(draws) / len(draws) + 0.5 * math.log(2 * math.pi))
    assert bound < evidence
    assert evidence - bound < 10


@torch.no_grad()
def test_of_someone_without_support_the_posterior_is_the_prior_exactly() -> None:
    learner, params = make(CONFIGS[1])
    assert isinstance(learner, ConditionalVAE)
    known = known_rows(learner)
    found, prior = learner.posterior(params, known), learner.prior(params, known.user_BF)
    divergence_B = found.divergence_from(prior)
    assert divergence_B[0] == 0
    assert (divergence_B[1:] > 0).all()


@pytest.mark.parametrize("config", CONFIGS, ids=["latent-np", "conditional-vae"])
@torch.no_grad()
def test_the_spread_is_the_noise_and_the_draws(config: AmortisedConfig) -> None:
    learner, params = make(config)
    assert isinstance(learner, LatentNP | ConditionalVAE)
    known, asked = known_rows(learner), known_rows(learner, (4,) * len(LENGTHS))
    state = learner.read(params, known)
    mean_BR, log_spread_BR = learner.decode(params, state, asked)
    certain = state | {"latent.log_spread": torch.full_like(state["latent.mean"], -30.0)}
    same_BR, log_noise_BR = learner.decode(params, certain, asked)
    torch.testing.assert_close(mean_BR, same_BR)
    assert (log_spread_BR > log_noise_BR).all()


def test_draws_of_the_posterior_are_what_the_state_says() -> None:
    learner, params = make(CONFIGS[0])
    assert isinstance(learner, LatentNP)
    known = known_rows(learner)
    state, found = learner.read(params, known), learner.latent(params, known)
    assert isinstance(found, DiagonalGaussian)
    torch.testing.assert_close(state["latent.mean"], found.mean_BZ)
    torch.testing.assert_close(state["latent.log_spread"], found.log_spread_BZ)
