"""The steps of the inner loop, however they are computed.

Legend: B users, S support rows, R rows, K steps, L layers.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch

from recmeta.metalearn.inner_loop.objectives import ObjectiveName, loss_of, slope_of
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.networks.network import EmbeddedItems, layer_of
from recmeta.metalearn.tensors.batch import Rows

RATES = "inner_rates"
"""Name of the learned rates of layers among the meta-parameters, (K, L)."""

OWN_RATES = "inner_rate."
"""Prefix of the names of rates that are a parameter's own."""


def own_rate(name: str) -> str:
    """Return the name of the rates, shaped as the parameter, that are a parameter's own."""
    return OWN_RATES + name


@dataclasses.dataclass(frozen=True, kw_only=True)
class InnerSteps:
    """Gradient steps on a user's support."""

    num_steps: int
    """K"""
    adapted_layers: tuple[bool, ...]
    """L, which layers adapt: all for MAML, only the last for ANIL."""
    learning_rate: float
    """The learning rate of every step and layer, where no rates are learned."""
    second_order: bool
    """Whether the outer gradient goes through the steps. False is first-order MAML."""
    support_prior: float
    """The loss of n support rows is multiplied by n / (n + support_prior)."""
    objective: ObjectiveName
    """The loss of the support."""

    def rates(self, params: Params) -> torch.Tensor | Sequence[float]:
        """Return the learned rates (K, L), or K numbers that all layers share."""
        learned = params.get(RATES)
        return [self.learning_rate] * self.num_steps if learned is None else learned

    def rate_of(self, params: Params, name: str, step: int) -> torch.Tensor | float:
        """Return the rate of a parameter of the network in a step: a number, or one for each of
        its numbers."""
        own = params.get(own_rate(name))
        if own is not None:
            return own
        rate = self.rates(params)[step]
        return rate[layer_of(name)] if isinstance(rate, torch.Tensor) else rate

    def adapted(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of a network's parameters that adapt."""
        return tuple(
            name
            for name in names
            if (layer := layer_of(name)) is not None and self.adapted_layers[layer]
        )

    def support_loss(
        self, output_BS: torch.Tensor, value_BS: torch.Tensor, mask_BS: torch.Tensor
    ) -> torch.Tensor:
        """Return (B,) the loss of the support that the steps minimise."""
        loss_B = loss_of(self.objective)(output_BS, value_BS, mask_BS)
        return loss_B * self._confidence(output_BS, mask_BS)

    def support_slope(
        self, output_BS: torch.Tensor, value_BS: torch.Tensor, mask_BS: torch.Tensor
    ) -> torch.Tensor:
        """Return (B, S) the derivative of `support_loss` by the outputs."""
        slope_BS = slope_of(self.objective)(output_BS, value_BS, mask_BS)
        return slope_BS * self._confidence(output_BS, mask_BS)[:, None]

    def _confidence(self, output_BS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
        """Return (B,) n / (n + prior)."""
        num_rows_B = mask_BS.sum(1).to(output_BS.dtype)
        return num_rows_B / (num_rows_B + self.support_prior).clamp(min=1)


class InnerLoop(Protocol):
    """Adapts users. Gradients that are being recorded go through the steps."""

    @property
    def least_rows(self) -> int:
        """The number of rows whose memory an adapted user takes at least."""
        ...

    def adapt(
        self, params: Params, user_BF: torch.Tensor, items: EmbeddedItems, rows: Rows
    ) -> UserState:
        """Return the users' states after the steps on their support.

        Args:
            user_BF: their embedded features.
            items: of the rows, (B, S, ·).
            rows: the support.
        """
        ...

    def predict(
        self, params: Params, state: UserState, items: EmbeddedItems, rows: Rows
    ) -> torch.Tensor:
        """Return the adapted networks' outputs (B, R); items and rows may have 1 for B."""
        ...
