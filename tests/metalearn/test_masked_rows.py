"""What lies under a support's padding changes no bit of what is read."""

import dataclasses

import pytest
import torch
from amortised_tasks import LENGTHS, known_rows, make

from recmeta.metalearn.algorithms.model_based.adversarial import AdversarialConfig
from recmeta.metalearn.algorithms.model_based.conditional_vae import ConditionalVAEConfig
from recmeta.metalearn.algorithms.model_based.latent_np import LatentNPConfig
from recmeta.metalearn.algorithms.model_based.snail import SNAILConfig
from recmeta.metalearn.algorithms.model_based.transformer_np import TransformerNPConfig
from recmeta.metalearn.inner_loop.amortised import AmortisedConfig

CONFIGS = [
    TransformerNPConfig(width=8, num_heads=2),
    SNAILConfig(width=4, num_dilations=3),
    LatentNPConfig(width=6, latent_dim=2),
    ConditionalVAEConfig(width=6, latent_dim=2),
    AdversarialConfig(width=6, noise_dim=2),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_masked_rows_have_no_influence(config: AmortisedConfig) -> None:
    learner, params = make(config)
    known = known_rows(learner)
    asked = known_rows(learner, (3,) * len(LENGTHS))
    other_token_BRH = torch.where(known.mask_BR[..., None], known.token_BRH, 1e3)
    poisoned = dataclasses.replace(known, token_BRH=other_token_BRH)
    plain = learner.decode(params, learner.read(params, known), asked)
    after = learner.decode(params, learner.read(params, poisoned), asked)
    for before, now in zip(plain, after, strict=True):
        assert torch.equal(before, now)
