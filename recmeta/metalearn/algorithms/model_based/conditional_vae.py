"""A conditional variational auto-encoder of a user's preferences (Mult-VAE: Liang, Krishnan,
Hoffman, Jebara, WWW 2018; conditional: Sohn, Lee, Yan, NeurIPS 2015).

    p(z | profile) = N(m, s²),  q(z | support, profile) = N(m + c·Δm, s²·exp(2c·Δs)),  c = n/(n+κ)
    value_i ~ N(expected_i + w(z)·v_i + w₀(z), spread_i²)    ratings
    items   ~ Multinomial(softmax_i(expected_i + w(z)·v_i))  implicit feedback, among those shown
    loss    = −log p(support ∪ query | z) + β KL(q ‖ p),     z ~ q(z | support, profile)

It generates users: a draw of z is somebody with this profile and support, as values of the whole
catalogue. What Mult-VAE does by dropout of its input, hiding a part of what is to be generated, the
split of every episode into support and query does here. Of someone without support q is the prior,
exactly.

Legend: B users, S support rows, R rows, Z latent dimensions, H width, M draws.
"""

import dataclasses
import math

import torch

from recmeta.metalearn.heads.gaussians import DiagonalGaussian, fixed_noise
from recmeta.metalearn.inner_loop.amortised import (
    FIRST_STEP,
    LOG_SPREAD_RANGE,
    AmortisedConfig,
    AmortisedLearner,
    Known,
    Tokens,
)
from recmeta.metalearn.inner_loop.objectives import ObjectiveName
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.numerics.named_draws import normal_by

MEAN, LOG_SPREAD = "latent.mean", "latent.log_spread"
ROW_PRIOR = 2.0
"""κ: the support says as much as the profile when it has so many rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionalVAEConfig(AmortisedConfig):
    """The latent and the weight of its divergence."""

    outer_objective: ObjectiveName | None = "softmax"
    """The loss for implicit feedback: `softmax` is the multinomial likelihood of Mult-VAE over the
    positives and the sampled negatives, `bce` its logistic likelihood."""
    latent_dim: int = 32
    """The dimension of z."""
    divergence_weight: float = 0.2
    """β, the weight of the divergence. With 1 the loss is the evidence lower bound; Mult-VAE ranks
    best at 0.2."""
    num_draws: int = 8
    """The number of draws of z from which a prediction's spread is computed; with 0 the spread is
    that of the noise alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_dim < 1:
            raise ValueError(f"latent_dim is {self.latent_dim}; it must be positive.")
        if min(self.num_draws, self.divergence_weight) < 0:
            raise ValueError(
                f"num_draws {self.num_draws} and divergence_weight {self.divergence_weight} must "
                "not be negative."
            )

    def build(self, setting: Setting) -> "ConditionalVAE":
        """Return the learner with these hyperparameters."""
        return ConditionalVAE(self, setting)


class ConditionalVAE(AmortisedLearner):
    """A user is a distribution over latent vectors, each of which is a taste."""

    def __init__(self, config: ConditionalVAEConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.config = config

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of prior, encoder and decoder."""
        width, size = self.width, self.config.latent_dim
        user_width = self.network.feature_widths[0]
        return {
            **init_dense("prior", user_width, 2 * size, generator, gain=FIRST_STEP),
            **init_dense("encode.items", width, width, generator),
            **init_dense("encode.values", width, width, generator),
            **init_dense("encode.0", width + user_width, width, generator),
            **init_dense("encode.1", width, 2 * size, generator, gain=FIRST_STEP),
            **init_dense("decode.0", size, width, generator),
            **init_dense("decode.1", width, width + 1, generator, gain=0.5),
            **init_dense("decode.items", width, width, generator),
            **init_dense("decode.spread", width, 1, generator, gain=FIRST_STEP),
        }

    def prior(self, params: Params, user_BF: torch.Tensor) -> DiagonalGaussian:
        """Return p(z | profile)."""
        mean_BZ, log_spread_BZ = dense(params, "prior", user_BF).chunk(2, -1)
        return DiagonalGaussian(mean_BZ, log_spread_BZ.clamp(*LOG_SPREAD_RANGE))

    def posterior(self, params: Params, known: Known) -> DiagonalGaussian:
        """Return q(z | support, profile)."""
        prior = self.prior(params, known.user_BF)
        valued_BSH = dense(params, "encode.values", known.token_BRH) * known.surprise_BR[..., None]
        row_BSH = dense(params, "encode.items", known.token_BRH) + valued_BSH
        bag_BH = known.average(row_BSH, ROW_PRIOR)
        hidden_BH = dense(params, "encode.0", torch.cat([bag_BH, known.user_BF], 1)).relu()
        count_B1 = known.mask_BR.sum(1, keepdim=True).to(bag_BH.dtype)
        change_B2Z = dense(params, "encode.1", hidden_BH) * (count_B1 / (count_B1 + ROW_PRIOR))
        by_mean_BZ, by_log_spread_BZ = change_B2Z.chunk(2, -1)
        log_spread_BZ = (prior.log_spread_BZ + by_log_spread_BZ).clamp(*LOG_SPREAD_RANGE)
        return DiagonalGaussian(prior.mean_BZ + by_mean_BZ, log_spread_BZ)

    def read(self, params: Params, known: Known) -> UserState:
        """Return mean and log spread of the latent, (B, Z)."""
        found = self.posterior(params, known)
        return {MEAN: found.mean_BZ, LOG_SPREAD: found.log_spread_BZ}

    def task_loss(
        self,
        params: Params,
        support: Known,
        query: Known,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the negative lower bound of the evidence of support and query, per row, (B,)."""
        posterior = self.posterior(params, support)
        divergence_B = posterior.divergence_from(self.prior(params, support.user_BF))
        latent_BZ = posterior.sample(normal_by(name_B, posterior.mean_BZ, generator))
        rows = support.joined(query)
        loss_B = self.loss(params, self._decode(params, latent_BZ, rows), rows)
        num_rows_B = rows.mask_BR.sum(1).clamp(min=1)
        return loss_B + self.config.divergence_weight * divergence_B / num_rows_B

    def decode(
        self, params: Params, state: UserState, asked: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean latent's taste, with the spread of the same few draws for every user."""
        shift_BR, log_spread_BR = self._decode(params, state[MEAN], asked)
        if not (self.is_graded and self.config.num_draws):
            return shift_BR, log_spread_BR
        noise_MZ = fixed_noise(self.config.num_draws, state[MEAN])
        latent = DiagonalGaussian(state[MEAN], state[LOG_SPREAD])
        drawn = [self._decode(params, z, asked)[0] for z in latent.sample(noise_MZ[:, None])]
        variance_BR = (torch.stack(drawn) - shift_BR).square().mean(0)
        noise_BR = log_spread_BR.clamp(*LOG_SPREAD_RANGE).exp().square()
        return shift_BR, 0.5 * (noise_BR + variance_BR).log()

    def _decode(
        self, params: Params, latent_BZ: torch.Tensor, asked: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return w(z)·v_i + w₀(z) and the logarithms of the noise's spreads, (B, R) each."""
        hidden_BH = dense(params, "decode.0", latent_BZ).tanh()
        told_BX = dense(params, "decode.1", hidden_BH)
        taste_BH, offset_B1 = told_BX[:, :-1], told_BX[:, -1:]
        item_BRH = dense(params, "decode.items", asked.token_BRH)
        shift_BR = (item_BRH @ taste_BH[..., None])[..., 0] / math.sqrt(self.width) + offset_B1
        return shift_BR, dense(params, "decode.spread", asked.token_BRH)[..., 0]


LEARNER = ConditionalVAEConfig
