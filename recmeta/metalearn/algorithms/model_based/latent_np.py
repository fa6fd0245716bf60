"""A latent neural process with task-adaptive modulation (TaNP: Lin, Wu, Zhou et al., WWW 2021).

    z ~ q(z | rows) = N(μ(r), σ(r)²),   r = mean of encode(token, surprise) over the rows
    t = mean of identify(token, surprise) over the support,   o = t + Σ_k c_k a_k
    h ← relu((1 + γ_l(o)) ⊙ (W_l h + b_l) + β_l(o)),   h_0 = [token_r, z]
    loss = −log p(value_query | z, o) + KL(q(z | support ∪ query) ‖ q(z | support)),  z ~ the former

(equations 4 to 10, with FiLM: Perez et al., AAAI 2018). It generates functions: a draw of z is one
way in which this user may value every item, coherently; the support determines the distribution of
z, and the user's similarity to the memories a_k determines how the decoder is modulated. The
paper's additional loss that sharpens the memories' shares c is left out.

Predictions are made at the mean latent; their spread combines the variance over draws with the
noise.

Legend: B users, S support rows, R rows, Z latent dimensions, H width, K memories, M draws.
"""

import dataclasses

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
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.numerics.named_draws import normal_by

MEAN, LOG_SPREAD, IDENTITY = "latent.mean", "latent.log_spread", "identity"
MEMORIES = "memories"
ROW_PRIOR = 1.0
"""A mean over rows is shrunk to 0 as if by this many more rows: one row counts less than ten do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentNPConfig(AmortisedConfig):
    """The latent, its memories and its decoder."""

    latent_dim: int = 32
    """The dimension of z."""
    num_layers: int = 2
    """The number of hidden layers of the decoder, each of which is modulated."""
    num_memories: int = 8
    """The number of memories, each a kind of user that the modulation knows."""
    divergence_weight: float = 1.0
    """The weight of the divergence in the loss; with 1 the loss is the evidence lower bound."""
    num_draws: int = 4
    """The number of draws of z from which a prediction's spread is computed; with 0 the spread is
    that of the noise alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_dim < 1 or self.num_layers < 1:
            raise ValueError(
                f"latent_dim {self.latent_dim} and num_layers {self.num_layers} must be positive."
            )
        if min(self.num_memories, self.num_draws, self.divergence_weight) < 0:
            raise ValueError(
                f"num_memories {self.num_memories}, num_draws {self.num_draws} and "
                f"divergence_weight {self.divergence_weight} must not be negative."
            )

    def build(self, setting: Setting) -> "LatentNP":
        """Return the learner with these hyperparameters."""
        return LatentNP(self, setting)


class LatentNP(AmortisedLearner):
    """A user is a distribution over latent vectors, and an identity that modulates the decoder."""

    def __init__(self, config: LatentNPConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.config = config

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of the encoders, the memories and the decoder."""
        config, width = self.config, self.width
        user_width = self.network.feature_widths[0]
        params: Params = {}
        for name in ("encode", "identify"):
            params |= init_dense(f"{name}.0", width + 1, width, generator)
            params |= init_dense(f"{name}.1", width, width, generator)
        params |= init_dense("latent.0", width + 1 + user_width, width, generator)
        params |= init_dense("latent.1", width, 2 * config.latent_dim, generator, gain=FIRST_STEP)
        if config.num_memories:
            shape = (config.num_memories, width)
            params[MEMORIES] = 0.1 * torch.randn(shape, generator=generator)
        width_in = width + config.latent_dim
        for layer in range(config.num_layers):
            params |= init_dense(f"decode.{layer}", width_in, width, generator)
            params |= init_dense(f"film.{layer}", width, 2 * width, generator, gain=FIRST_STEP)
            width_in = width
        return params | init_dense("head", width, 2, generator, gain=FIRST_STEP)

    def read(self, params: Params, known: Known) -> UserState:
        """Return mean and log spread of the latent (B, Z), and the identity (B, H)."""
        latent = self.latent(params, known)
        identity_BH = known.average(_rows(params, "identify", known), ROW_PRIOR)
        if MEMORIES in params:
            identity_BH = identity_BH + _shares(identity_BH, params[MEMORIES]) @ params[MEMORIES]
        return {MEAN: latent.mean_BZ, LOG_SPREAD: latent.log_spread_BZ, IDENTITY: identity_BH}

    def latent(self, params: Params, known: Known) -> DiagonalGaussian:
        """Return q(z | rows, profile)."""
        read_BH = known.average(_rows(params, "encode", known), ROW_PRIOR)
        count_B1 = known.mask_BR.sum(1, keepdim=True).to(read_BH.dtype).log1p()
        hidden_BH = dense(params, "latent.0", torch.cat([read_BH, count_B1, known.user_BF], 1))
        mean_BZ, log_spread_BZ = dense(params, "latent.1", torch.relu(hidden_BH)).chunk(2, -1)
        return DiagonalGaussian(mean_BZ, log_spread_BZ.clamp(*LOG_SPREAD_RANGE))

    def task_loss(
        self,
        params: Params,
        support: Known,
        query: Known,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the negative lower bound of the query's evidence, per query row, (B,)."""
        state = self.read(params, support)
        posterior = self.latent(params, support.joined(query))
        divergence_B = posterior.divergence_from(_latent_of(state))
        draw_BZ = posterior.sample(normal_by(name_B, posterior.mean_BZ, generator))
        loss_B = self.loss(params, self._run(params, draw_BZ, state, query), query)
        num_rows_B = query.mask_BR.sum(1).clamp(min=1)
        return loss_B + self.config.divergence_weight * divergence_B / num_rows_B

    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs at the mean latent, and a spread from the same few draws for every
        user."""
        shift_BR, log_spread_BR = self._run(params, state[MEAN], state, target)
        if not (self.is_graded and self.config.num_draws):
            return shift_BR, log_spread_BR
        noise_MZ = fixed_noise(self.config.num_draws, state[MEAN])
        draws_MBZ = _latent_of(state).sample(noise_MZ[:, None])
        drawn = [self._run(params, draw_BZ, state, target)[0] for draw_BZ in draws_MBZ]
        variance_BR = (torch.stack(drawn) - shift_BR).square().mean(0)
        noise_BR = log_spread_BR.clamp(*LOG_SPREAD_RANGE).exp().square()
        return shift_BR, 0.5 * (noise_BR + variance_BR).log()

    def _run(
        self, params: Params, latent_BZ: torch.Tensor, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the modulated decoder for one latent per user."""
        shared_BRZ = latent_BZ[:, None].expand(-1, target.token_BRH.shape[1], -1)
        hidden = torch.cat([target.token_BRH, shared_BRZ], -1)
        for layer in range(self.config.num_layers):
            gain_B1H, shift_B1H = (
                dense(params, f"film.{layer}", state[IDENTITY])[:, None].tanh().chunk(2, -1)
            )
            inner = dense(params, f"decode.{layer}", hidden)
            hidden = torch.relu((1 + gain_B1H) * inner + shift_B1H)
        shift_BR, log_spread_BR = dense(params, "head", hidden).unbind(-1)
        return shift_BR, log_spread_BR


def _latent_of(state: UserState) -> DiagonalGaussian:
    return DiagonalGaussian(state[MEAN], state[LOG_SPREAD])


def _rows(params: Params, name: str, known: Known) -> torch.Tensor:
    """Return each row through one of the two encoders, (B, S, H)."""
    row_BSH = torch.cat([known.token_BRH, known.surprise_BR[..., None]], -1)
    return dense(params, f"{name}.1", torch.relu(dense(params, f"{name}.0", row_BSH)))


def _shares(identity_BH: torch.Tensor, memory_KH: torch.Tensor) -> torch.Tensor:
    """Return each memory's share of a user, (B, K): a normalised Student's t kernel (equation
    6)."""
    far_BK = (identity_BH[:, None] - memory_KH).square().sum(-1)
    near_BK = 1 / (1 + far_BK)
    return near_BK / near_BK.sum(1, keepdim=True)


LEARNER = LatentNPConfig
