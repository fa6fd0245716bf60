"""Prototypical networks: a prototype per level of the rating scale (Snell, Swersky, Zemel:
Prototypical networks for few-shot learning, NeurIPS 2017, equations 1 and 2).

    c_uk = (n₀ m_k + Σ_s w_sk z_s) / (n₀ + n_uk),   n_uk = Σ_s w_sk
    log p(k | r, S_u) = log p(k | r) − ‖z_r − c_uk‖² + ‖z_r − m_k‖² + log share_uk / share_k + const

z is an embedding of a row, w_sk how much of row s is level k (all of it, where its value is a
level), m_k a shared prototype that stands for n₀ rows, so that a user without any row of a level
also has a prototype. p(k | r) is what is expected of any user with the profile. The last term is
Bayes's rule for how often the user gives a level; in tasks of as many rows per class it vanishes,
and the two distances remain, which are the paper's. The prediction is the expectation over levels,
or its median. Implicit feedback has two levels, and their log-odds are the prediction.

Legend: B users, S support rows, R rows, L levels, E numbers of an embedding.
"""

import dataclasses

import torch

from recmeta.metalearn.inner_loop.amortised import AmortisedConfig, AmortisedLearner, Known, Tokens
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import dense, init_dense

PROTOTYPE, SHARE = "prototype", "log_share"
SHARED_PROTOTYPES = "prototypes.shared"
SHARED_SHARES = "prototypes.share_logits"
LOG_STRENGTH = "prototypes.log_strength"
LOG_DISTANCE_SCALE = "prototypes.log_distance_scale"
LOG_EXPECTED_SPREAD = "prototypes.log_expected_spread"
NUM_LEVELS = 5
"""The number of levels of a scale without steps."""
LEAST_VARIANCE = 1e-3
"""The least variance of a prediction over levels, which may be certain of one level."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrototypicalConfig(AmortisedConfig):
    """The embedding in which distances are taken."""

    embedding_dim: int = 32
    """The width of a row's embedding and of a prototype."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_dim < 1:
            raise ValueError(f"embedding_dim is {self.embedding_dim}; it must be at least 1.")

    def build(self, setting: Setting) -> "Prototypical":
        """Return the learner with these hyperparameters."""
        return Prototypical(self, setting)


class Prototypical(AmortisedLearner):
    """A user is a prototype per level, and how often they give it."""

    def __init__(self, config: PrototypicalConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.embedding_dim = config.embedding_dim
        lowest, highest = setting.value_range if setting.is_graded else (0.0, 1.0)
        num_levels = (config.num_levels or NUM_LEVELS) if setting.is_graded else 2
        self.levels = tuple(torch.linspace(lowest, highest, num_levels).tolist())

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the embedding, the shared prototypes, the shares of levels and three scales."""
        num_levels = len(self.levels)
        params = init_dense("prototypes.embed", self.width, self.embedding_dim, generator)
        params[SHARED_PROTOTYPES] = 0.1 * torch.randn(
            (num_levels, self.embedding_dim), generator=generator
        )
        params[SHARED_SHARES] = torch.zeros(num_levels)
        params[LOG_STRENGTH] = torch.full((2,), 3.0).log()
        params[LOG_DISTANCE_SCALE] = torch.full((1,), 0.1).log()
        params[LOG_EXPECTED_SPREAD] = torch.full((1,), 0.8).log()
        return params

    def read(self, params: Params, known: Known) -> UserState:
        """Return the users' prototypes (B, L, E), and the logarithms of their shares of levels
        minus those of all users (B, L)."""
        z_BSE = dense(params, "prototypes.embed", known.token_BRH)
        weight_BSL = self.nearness(known.value_BR) * known.mask_BR[..., None]
        count_BL = weight_BSL.sum(1)
        strength, share_strength = params[LOG_STRENGTH].exp()
        shared_LE = strength * params[SHARED_PROTOTYPES]
        prototype_BLE = (shared_LE + weight_BSL.mT @ z_BSE) / (strength + count_BL)[..., None]
        share_L = params[SHARED_SHARES].softmax(0)
        total_B1 = count_BL.sum(1, keepdim=True) + share_strength
        share_BL = (share_strength * share_L + count_BL) / total_B1
        return {PROTOTYPE: prototype_BLE, SHARE: share_BL.log() - share_L.log()}

    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the difference between the expectation over levels (for implicit feedback, the
        log-odds) and the value that is expected of any user with the profile, and the logarithm of
        its standard deviation."""
        logit_BRL = self.logits(params, state, target)
        if not self.is_graded:
            log_odds_BR = logit_BRL[..., 1] - logit_BRL[..., 0]
            return log_odds_BR - target.expected_BR, torch.zeros_like(log_odds_BR)
        share_BRL = logit_BRL.softmax(-1)
        level_L = share_BRL.new_tensor(self.levels)
        mean_BR = share_BRL @ level_L
        variance_BR = (share_BRL * (level_L - mean_BR[..., None]).square()).sum(-1)
        return mean_BR - target.expected_BR, (variance_BR + LEAST_VARIANCE).log() / 2

    def task_loss(
        self,
        params: Params,
        support: Known,
        query: Known,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return each task's mean cross-entropy of the query's levels, (B,). Where medians of
        ratings are predicted, their absolute error is added."""
        state = self.read(params, support)
        if not self.is_graded:
            return self.loss(params, self.decode(params, state, query), query)
        log_share_BRL = self.logits(params, state, query).log_softmax(-1)
        entropy_BR = -(self.nearness(query.value_BR) * log_share_BRL).sum(-1)
        loss_B = query.average(entropy_BR[..., None], 0.0)[:, 0]
        return loss_B + self.absolute_error(params, self.decode(params, state, query), query)

    def logits(self, params: Params, state: UserState, target: Tokens) -> torch.Tensor:
        """Return the levels' log-probabilities up to a constant, (B, R, L)."""
        z_BRE = dense(params, "prototypes.embed", target.token_BRH)
        shared_LE, own_BLE = params[SHARED_PROTOTYPES], state[PROTOTYPE]
        # The squared norm of z is in both distances, and falls out of their difference.
        nearer_BRL = 2 * z_BRE @ (own_BLE - shared_LE).mT
        nearer_BRL = nearer_BRL - (own_BLE.square() - shared_LE.square()).sum(-1)[:, None]
        logit_BRL = params[LOG_DISTANCE_SCALE].exp() * nearer_BRL + state[SHARE][:, None]
        if not self.is_graded:
            return logit_BRL + torch.stack(
                [torch.zeros_like(target.expected_BR), target.expected_BR], -1
            )
        level_L = z_BRE.new_tensor(self.levels)
        off_BRL = (level_L - target.expected_BR[..., None]) / params[LOG_EXPECTED_SPREAD].exp()
        return logit_BRL - off_BRL.square() / 2

    def nearness(self, value_BR: torch.Tensor) -> torch.Tensor:
        """Return how much of each value is each level, (B, R, L): a value between two levels is
        shared by them."""
        step = self.levels[1] - self.levels[0]
        level_L = value_BR.new_tensor(self.levels)
        inside_BR1 = value_BR.clamp(self.levels[0], self.levels[-1])[..., None]
        share_BRL: torch.Tensor = 1 - (inside_BR1 - level_L).abs() / step
        return share_BRL.clamp(min=0)


LEARNER = PrototypicalConfig
