"""SNAIL: temporal convolutions and causal attention over a user's history (Mishra, Rohaninejad,
Chen, Abbeel, ICLR 2018, figure 2).

    x_t ← [x_t, tanh(W_f [x_{t−d}, x_t]) ⊙ σ(W_g [x_{t−d}, x_t])]        for d = 1, 2, 4, …
    x_t ← [x_t, Σ_{s ≤ t} softmax_s(q_t · k_s / √K) v_s]

The sequence is the support in order of time, each row with its surprise, then one row to predict,
without a surprise. No row looks ahead: the support is read once, and every target continues it as
if it were the only row that came next.

Legend: B users, S support rows, R rows, C numbers of a row so far, K of a key, N = R or S.
"""

import dataclasses
import math
from collections.abc import Callable

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

EARLIER = "earlier"
"""Key of a user's state, (B, S): which rows are in the history."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNAILConfig(AmortisedConfig):
    """The hyperparameters of the network over the sequence."""

    width: int = 32
    """The width of a token, and the number of features that a convolution or an attention adds to a
    row."""
    num_dilations: int = 5
    """The number of convolutions of a block, with dilations 1, 2, 4, …; five of them look 31 rows
    back."""
    num_blocks: int = 1
    """The number of blocks, each of which has the convolutions and then attention over all earlier
    rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_dilations < 0 or self.num_blocks < 1:
            raise ValueError(
                f"num_dilations {self.num_dilations} must not be negative, and num_blocks "
                f"{self.num_blocks} at least 1."
            )

    @property
    def reads_in_order(self) -> bool:
        """True: a support is a history."""
        return True

    def build(self, setting: Setting) -> "SNAIL":
        """Return the learner with these hyperparameters."""
        return SNAIL(self, setting)


class SNAIL(AmortisedLearner):
    """A user's state is the earlier part of their history that predicting the next row reads."""

    def __init__(self, config: SNAILConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        dilations = [2**power for power in range(config.num_dilations)]
        self.layers: list[int | None] = [*dilations, None] * config.num_blocks
        """In order: a convolution's dilation, or None for attention."""

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of the layers and of the head."""
        width, params = self.width + 2, Params()
        for index, dilation in enumerate(self.layers):
            parts = ("query", "key", "value") if dilation is None else ("filter", "gate")
            width_in = width if dilation is None else 2 * width
            for part in parts:
                name = f"sequence.{index}.{part}"
                params |= init_dense(name, width_in, self.width, generator, gain=0.5)
            width += self.width
        return params | init_dense("head", width, 2, generator, gain=FIRST_STEP)

    def read(self, params: Params, known: Known) -> UserState:
        """Return, layer by layer, what the next row reads of the earlier ones: for a convolution
        the row `earlier.N` (B, 1, C), for attention `key.N` and `value.N` (B, S, K) of all rows."""
        mask_BS = known.mask_BR
        num_rows_B = mask_BS.sum(1)
        place_S = torch.arange(mask_BS.shape[1], device=mask_BS.device)
        is_before_SS = place_S[:, None] > place_S
        allowed_BSS = is_before_SS & mask_BS[:, None]
        state: UserState = {EARLIER: mask_BS}

        def back(index: int, dilation: int, x_BSC: torch.Tensor) -> torch.Tensor:
            padded_BPC = torch.nn.functional.pad(x_BSC, (0, 0, dilation, 0))
            # Row n − d of the history is row n of the padded one; before the first there is 0.
            row_B11 = num_rows_B[:, None, None].expand(-1, 1, x_BSC.shape[2])
            state[f"{EARLIER}.{index}"] = padded_BPC.gather(1, row_B11)
            return padded_BPC[:, : x_BSC.shape[1]]

        def past(
            index: int, key_BSK: torch.Tensor, value_BSK: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            state[f"key.{index}"], state[f"value.{index}"] = key_BSK, value_BSK
            return key_BSK, value_BSK, allowed_BSS

        self._run(params, _rows(known.token_BRH, known.surprise_BR), back, past)
        return state

    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Continue every user's sequence by each of the rows."""

        def back(index: int, dilation: int, x_BRC: torch.Tensor) -> torch.Tensor:
            return state[f"{EARLIER}.{index}"].expand(-1, x_BRC.shape[1], -1)

        def past(
            index: int, key_BRK: torch.Tensor, value_BRK: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            allowed_BRS = state[EARLIER][:, None].expand(-1, key_BRK.shape[1], -1)
            return state[f"key.{index}"], state[f"value.{index}"], allowed_BRS

        x_BRC = self._run(params, _rows(target.token_BRH, None), back, past)
        shift_BR, log_spread_BR = dense(params, "head", x_BRC).unbind(-1)
        return shift_BR, log_spread_BR

    def _run(
        self,
        params: Params,
        x_BNC: torch.Tensor,
        back: Callable[[int, int, torch.Tensor], torch.Tensor],
        past: Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]],
    ) -> torch.Tensor:
        """Return rows after all layers, (B, N, C).

        Args:
            back: from layer, dilation and rows, to the rows that lie one dilation before them.
            past: from layer, keys and values of the rows, to those of earlier rows (B, S, K), and
                which of them each row may read (B, N, S).
        """
        for index, dilation in enumerate(self.layers):
            name = f"sequence.{index}"
            if dilation is not None:
                both_BNC = torch.cat([back(index, dilation, x_BNC), x_BNC], -1)
                filtered = dense(params, f"{name}.filter", both_BNC).tanh()
                added = filtered * dense(params, f"{name}.gate", both_BNC).sigmoid()
            else:
                query, key, value = (
                    dense(params, f"{name}.{part}", x_BNC) for part in ("query", "key", "value")
                )
                added = _attend(query, key, value, *past(index, key, value))
            x_BNC = torch.cat([x_BNC, added], -1)
        return x_BNC


def _rows(token_BRH: torch.Tensor, surprise_BR: torch.Tensor | None) -> torch.Tensor:
    """Return rows of the sequence: the token, the surprise, and whether the surprise is known."""
    if surprise_BR is None:
        surprise_BR2 = token_BRH.new_zeros((*token_BRH.shape[:2], 2))
    else:
        surprise_BR2 = torch.stack([surprise_BR, torch.ones_like(surprise_BR)], -1)
    return torch.cat([token_BRH, surprise_BR2], -1)


def _attend(
    query_BNK: torch.Tensor,
    own_key_BNK: torch.Tensor,
    own_value_BNK: torch.Tensor,
    key_BSK: torch.Tensor,
    value_BSK: torch.Tensor,
    allowed_BNS: torch.Tensor,
) -> torch.Tensor:
    """Return what rows read of themselves and of the earlier rows that they may read, (B, N, K)."""
    scale = 1 / math.sqrt(query_BNK.shape[-1])
    own_BN1 = (query_BNK * own_key_BNK).sum(-1, keepdim=True)
    earlier_BNS = (query_BNK @ key_BSK.mT).masked_fill(~allowed_BNS, -torch.inf)
    share_BNT = (torch.cat([own_BN1, earlier_BNS], -1) * scale).softmax(-1)
    return share_BNT[..., :1] * own_value_BNK + share_BNT[..., 1:] @ value_BSK


LEARNER = SNAILConfig
