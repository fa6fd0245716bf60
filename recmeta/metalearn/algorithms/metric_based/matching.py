"""Matching networks: a weighted vote of the support (Vinyals, Blundell, Lillicrap, Kavukcuoglu,
Wierstra: Matching networks for one shot learning, NeurIPS 2016, equations 1 and 2).

    output_r = expected_r + Σ_s a(r, s) surprise_s
    a(r, ·)  = softmax over the support of sharpness · cos(f(token_r), g(token_s)), and of one row
               more, whose surprise is 0 and whose logit is learned: no row may be similar

The vote is on the deviation from what was expected of the user, so that an empty support leaves the
expected value. With `num_context_steps` the embeddings f and g depend on the whole support (full
context embeddings, the paper's equations 3 to 6): an LSTM that attends to the support in each step.
The paper's g is a bidirectional LSTM over the support as it happens to be listed; here it is the
same attention as f, which keeps the support a set.

Legend: B users, S support rows, R rows, E numbers of an embedding.
"""

import dataclasses

import torch
import torch.nn.functional as F

from recmeta.metalearn.inner_loop.amortised import AmortisedConfig, AmortisedLearner, Known, Tokens
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import dense, init_dense

KEY, SURPRISE, MASK = "key", "surprise", "mask"
NOTHING_ALIKE = "match.nothing"
SHARPNESS = "match.log_sharpness"
SPREAD = "match.log_spread"
FIRST_SHARPNESS = 5.0
"""Cosines lie between -1 and 1: with this, a row's weight is up to e¹⁰ times another's."""
FIRST_NOTHING = 2.5
"""The weight of a row whose cosine is ½, so that there is a vote from the start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchingConfig(AmortisedConfig):
    """How rows are compared."""

    num_context_steps: int = 0
    """The number of steps of the attending LSTM that reads the support before rows are compared.
    With 0 a row's embedding depends on the row alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_context_steps < 0:
            raise ValueError(
                f"num_context_steps is {self.num_context_steps}; it must not be negative."
            )

    def build(self, setting: Setting) -> "Matching":
        """Return the learner with these hyperparameters."""
        return Matching(self, setting)


class Matching(AmortisedLearner):
    """A user is their support, embedded."""

    def __init__(self, config: MatchingConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.num_context_steps = config.num_context_steps

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of the two embeddings and of the comparison."""
        width = self.width
        params = init_dense("match.asked", width, width, generator)
        params |= init_dense("match.known", width, width, generator)
        params[NOTHING_ALIKE] = torch.full((1,), FIRST_NOTHING)
        params[SHARPNESS] = torch.full((1,), FIRST_SHARPNESS).log()
        params[SPREAD] = torch.tensor([-0.3, 0.0])
        if self.num_context_steps > 0:
            params |= init_dense("match.lstm", 3 * width, 4 * width, generator)
        return params

    def read(self, params: Params, known: Known) -> UserState:
        """Return the support's embeddings (B, S, E), surprises and mask (B, S)."""
        key_BSE = F.normalize(dense(params, "match.known", known.token_BRH), dim=-1)
        key_BSE = self._in_context(params, key_BSE, key_BSE, known.mask_BR)
        return {
            KEY: F.normalize(key_BSE, dim=-1),
            SURPRISE: known.surprise_BR,
            MASK: known.mask_BR,
        }

    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vote, and a spread that depends on how similar the support's rows are."""
        target_BRE = dense(params, "match.asked", target.token_BRH)
        target_BRE = self._in_context(params, target_BRE, state[KEY], state[MASK])
        cosine_BRS = F.normalize(target_BRE, dim=-1) @ state[KEY].mT
        logit_BRS = params[SHARPNESS].exp() * cosine_BRS
        logit_BRS = logit_BRS.masked_fill(~state[MASK][:, None], -torch.inf)
        nothing_BR1 = params[NOTHING_ALIKE].expand(*logit_BRS.shape[:2], 1)
        weight_BRC = torch.cat([logit_BRS, nothing_BR1], -1).softmax(-1)
        vote_BR = (weight_BRC[..., :-1] @ state[SURPRISE][..., None])[..., 0]
        return vote_BR, params[SPREAD][0] + params[SPREAD][1] * weight_BRC[..., -1]

    def _in_context(
        self, params: Params, own_BRE: torch.Tensor, known_BSE: torch.Tensor, mask_BS: torch.Tensor
    ) -> torch.Tensor:
        """Return embeddings of rows that have read the support: the paper's equations 3 to 6.

        Args:
            own_BRE: embeddings of the rows alone.
            known_BSE: of the support.
            mask_BS: of the support.
        """
        hidden_BRE, cell_BRE = own_BRE, torch.zeros_like(own_BRE)
        for _ in range(self.num_context_steps):
            read_BRE = _attended(hidden_BRE, known_BSE, mask_BS)
            gates = dense(params, "match.lstm", torch.cat([own_BRE, hidden_BRE, read_BRE], -1))
            take, keep, put, new = gates.chunk(4, -1)
            cell_BRE = keep.sigmoid() * cell_BRE + take.sigmoid() * new.tanh()
            hidden_BRE = put.sigmoid() * cell_BRE.tanh() + own_BRE
        return hidden_BRE


def _attended(
    target_BRE: torch.Tensor, known_BSE: torch.Tensor, mask_BS: torch.Tensor
) -> torch.Tensor:
    """Return the support as each row attends to it, (B, R, E), or zeros for an empty support."""
    logit_BRS = (target_BRE @ known_BSE.mT).masked_fill(~mask_BS[:, None], -torch.inf)
    # A row of zeros to read, of logit 0, keeps the softmax defined without support.
    weight_BRC = F.pad(logit_BRS, (0, 1), value=0.0).softmax(-1)
    return weight_BRC[..., :-1] @ known_BSE


LEARNER = MatchingConfig
