"""A transformer neural process: target rows attend to the support (Nguyen, Grover, ICML 2022).

    c_0 = embed(token_s, surprise_s),  t_0 = embed(token_r, unknown)
    x   ← x + attend(norm(x); norm(c_l), profile_l)      x: c_l or t_l; one weight for both
    x   ← x + feed_forward(norm(x))
    value_r ~ N(expected_r + head(t_L)₁, exp(head(t_L)₂)²)

The support's rows attend to each other and to the user's profile. The profile is always present, so
that an empty support is no special case. There are no positions: the result does not depend on the
order of the support (set transformer: Lee et al., ICML 2019). Targets do not see one another; this
is the paper's diagonal form, in which their predictions are independent.

Legend: B users, S support rows, R rows, C = S + 1 rows to attend to (the profile first), H width.
"""

import dataclasses

import torch
import torch.nn.functional as F

from recmeta.metalearn.inner_loop.amortised import (
    FIRST_STEP,
    AmortisedConfig,
    AmortisedLearner,
    Known,
    Tokens,
)
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.dense import attention, dense, init_dense, init_norm, norm

READABLE = "readable"
"""Key of a user's state, (B, C): which of the user's rows may be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerNPConfig(AmortisedConfig):
    """The transformer."""

    num_layers: int = 2
    """The number of layers, each of attention and a feed-forward network."""
    num_heads: int = 4
    """The number of heads of each attention, which share the width."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_layers < 1 or self.num_heads < 1:
            raise ValueError(
                f"num_layers {self.num_layers} and num_heads {self.num_heads} must be positive."
            )
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} must be a multiple of num_heads.")

    def build(self, setting: Setting) -> "TransformerNP":
        """Return the learner with these hyperparameters."""
        return TransformerNP(self, setting)


class TransformerNP(AmortisedLearner):
    """A user is what the layers' attention can read of them: keys and values, row by row."""

    def __init__(self, config: TransformerNPConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.num_layers = config.num_layers
        self.num_heads = config.num_heads

    def init_own(self, generator: torch.Generator) -> Params:
        """Return the parameters of the embeddings, the layers and the head."""
        width, user_width = self.width, self.network.feature_widths[0]
        params = init_dense("row", width + 2, width, generator)
        params |= init_dense("profile", user_width, width, generator)
        for layer in range(self.num_layers):
            for part in ("query", "key", "value"):
                params |= init_dense(f"attend.{layer}.{part}", width, width, generator, gain=0.5)
            params |= init_dense(f"attend.{layer}.out", width, width, generator, gain=FIRST_STEP)
            params |= init_dense(f"feed.{layer}.0", width, 2 * width, generator)
            params |= init_dense(f"feed.{layer}.1", 2 * width, width, generator, gain=FIRST_STEP)
            params |= init_norm(f"attend.{layer}", width) | init_norm(f"feed.{layer}", width)
        return (
            params
            | init_norm("head", width)
            | init_dense("head", width, 2, generator, gain=FIRST_STEP)
        )

    def read(self, params: Params, known: Known) -> UserState:
        """Return each layer's keys and values of profile and support (B, C, H), and which may be
        read (B, C)."""
        profile_B1H = dense(params, "profile", known.user_BF)[:, None]
        x_BCH = torch.cat([profile_B1H, self._rows(params, known.token_BRH, known.surprise_BR)], 1)
        mask_BC = F.pad(known.mask_BR, (1, 0), value=True)
        state: UserState = {READABLE: mask_BC}
        for layer in range(self.num_layers):
            normed_BCH = norm(params, f"attend.{layer}", x_BCH)
            for part in ("key", "value"):
                state[f"{part}.{layer}"] = dense(params, f"attend.{layer}.{part}", normed_BCH)
            x_BCH = self._layer(params, layer, x_BCH, state)
        return state

    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the targets through the layers."""
        x_BRH = self._rows(params, target.token_BRH, None)
        for layer in range(self.num_layers):
            x_BRH = self._layer(params, layer, x_BRH, state)
        shift_BR, log_spread_BR = dense(params, "head", norm(params, "head", x_BRH)).unbind(-1)
        return shift_BR, log_spread_BR

    def _rows(
        self, params: Params, token_BRH: torch.Tensor, surprise_BR: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the embedded rows, marked with whether their surprise is known."""
        if surprise_BR is None:
            surprise_BR2 = token_BRH.new_zeros((*token_BRH.shape[:2], 2))
        else:
            surprise_BR2 = torch.stack([surprise_BR, torch.ones_like(surprise_BR)], -1)
        return dense(params, "row", torch.cat([token_BRH, surprise_BR2], -1))

    def _layer(
        self, params: Params, layer: int, x_BRH: torch.Tensor, state: UserState
    ) -> torch.Tensor:
        name = f"attend.{layer}"
        read_BRH = attention(
            dense(params, f"{name}.query", norm(params, name, x_BRH)),
            state[f"key.{layer}"],
            state[f"value.{layer}"],
            state[READABLE],
            self.num_heads,
        )
        x_BRH = x_BRH + dense(params, f"{name}.out", read_BRH)
        hidden = dense(params, f"feed.{layer}.0", norm(params, f"feed.{layer}", x_BRH))
        return x_BRH + dense(params, f"feed.{layer}.1", torch.relu(hidden))


LEARNER = TransformerNPConfig
