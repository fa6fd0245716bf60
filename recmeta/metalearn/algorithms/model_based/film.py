"""A gate computed from the task's own metadata, which scales and shifts a network's hidden units.

    task_u   = profile, log(1 + n), mean surprise and mean squared surprise of the support,
               mean token, mean of surprise times token
    γ_u, β_u = gate(task_u)
    output_r = expected_r + head(relu((1 + γ_u) ∘ hidden(token_r) + β_u))

FiLM (Perez et al., AAAI 2018) as conditional neural adaptive processes use it for tasks (Requeima
et al., NeurIPS 2019). As in meta-networks, one network writes part of another (Munkhdalai, Yu, ICML
2017). One pass over the support, and two vectors per user.

Legend: B users, R rows, H width, M numbers of a task's metadata.
"""

import dataclasses

import torch

from recmeta.metalearn.inner_loop.amortised import (
    FIRST_STEP,
    AmortisedConfig,
    AmortisedLearner,
    Known,
    Tokens,
)
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import dense, init_dense

SCALE, SHIFT = "scale", "shift"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiLMConfig(AmortisedConfig):
    """How the metadata are computed."""

    prior_rows: float = 3.0
    """Means over the support are shrunk to 0 as if there were this many more rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior_rows < 0:
            raise ValueError(f"prior_rows is {self.prior_rows}; it must not be negative.")

    def build(self, setting: Setting) -> "FiLM":
        """Return the learner with these hyperparameters."""
        return FiLM(self, setting)


class FiLM(AmortisedLearner):
    """A user is a scale and a shift of each hidden unit."""

    def __init__(self, config: FiLMConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.prior_rows = config.prior_rows

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of gate, hidden layer and head."""
        width = self.width
        num_metadata = self.network.feature_widths[0] + 3 + 2 * width
        return (
            init_dense("gate.0", num_metadata, width, generator)
            | init_dense("gate.1", width, 2 * width, generator, gain=0.5)
            | init_dense("gated", width, width, generator)
            | init_dense("head", width, 2, generator, gain=FIRST_STEP)
        )

    def read(self, params: Params, known: Known) -> UserState:
        """Return the users' scales and shifts, (B, H) each."""
        surprise_BR1 = known.surprise_BR[..., None]
        input_BRM = torch.cat(
            [
                surprise_BR1,
                surprise_BR1.square(),
                known.token_BRH,
                known.token_BRH * surprise_BR1,
            ],
            -1,
        )
        count_B1 = known.mask_BR.sum(1, keepdim=True).to(known.user_BF.dtype)
        task_BM = torch.cat(
            [known.user_BF, count_B1.log1p(), known.average(input_BRM, self.prior_rows)], -1
        )
        hidden_BH = torch.relu(dense(params, "gate.0", task_BM))
        scale_BH, shift_BH = dense(params, "gate.1", hidden_BH).chunk(2, -1)
        return {SCALE: 1 + scale_BH, SHIFT: shift_BH}

    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the targets through the gated layer and the head."""
        hidden_BRH = dense(params, "gated", target.token_BRH)
        gated_BRH = torch.relu(hidden_BRH * state[SCALE][:, None] + state[SHIFT][:, None])
        change_BR, log_spread_BR = dense(params, "head", gated_BRH).unbind(-1)
        return change_BR, log_spread_BR


LEARNER = FiLMConfig
