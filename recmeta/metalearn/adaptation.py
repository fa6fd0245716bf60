"""Gradient steps on every user's decision layers at once, without a copy of the weights per user.

For a linear layer z = a Wᵀ + b, the gradient of the support loss is ∇W = Gᵀ A and ∇b = Gᵀ 1, where
A are the layer's inputs on the user's support rows and G is the loss gradient at its outputs. A
step of rate α therefore changes the layer's output on any row a by −α (a Aᵀ + 1) G: the adapted
layer *is* the pair (A, αG). The pairs of several steps are laid end to end (those of the first
layer, whose inputs stay, add up). In ordinary differentiable operations, back-propagation through
this is the exact second-order MAML gradient (Finn, Abbeel, Levine, ICML 2017).

Legend: B users, S support rows (padded), K steps, R rows, i layer inputs, o layer outputs.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class LayerState:
    """How one user-adapted linear layer differs from the shared one."""

    inputs_BSi: torch.Tensor
    """The layer's inputs on the support rows, step after step."""
    gradients_BSo: torch.Tensor
    """The loss gradients at its outputs, times the inner rate."""


Forward = Callable[
    [Sequence[LayerState | None]], tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]
]
"""Given a state per layer (None: not adapted), returns the support outputs (B, S) and, per layer,
its inputs (B, S, i) and outputs (B, S, o)."""


def linear(
    x_BRi: torch.Tensor,
    weight_oi: torch.Tensor,
    bias_o: torch.Tensor,
    state: LayerState | None,
) -> torch.Tensor:
    """Return the output (B, R, o) of a linear layer as each user has adapted it."""
    z_BRo = F.linear(x_BRi, weight_oi, bias_o)
    if state is None:
        return z_BRo
    gram_BRS = x_BRi @ state.inputs_BSi.transpose(1, 2) + 1
    return z_BRo - gram_BRS @ state.gradients_BSo


def adapt(
    forward: Forward,
    loss: Callable[[torch.Tensor], torch.Tensor],
    rates_KL: torch.Tensor,
    adapted_layers: Sequence[bool],
    *,
    second_order: bool,
) -> list[LayerState | None]:
    """Take K gradient steps on the support loss, for all users at once.

    Args:
        forward: runs the network on the support.
        loss: support outputs (B, S) to a loss per user (B,); padded rows must not count.
        rates_KL: inner learning rate by step and layer.
        adapted_layers: which layers adapt; all for MAML, only the last for ANIL.
        second_order: keep the steps' own graph, where gradients are being recorded. False gives
            first-order MAML.

    Returns:
        A state per layer, None for one that does not adapt.
    """
    recording = torch.is_grad_enabled()
    states: list[LayerState | None] = [None] * len(adapted_layers)
    chosen = [index for index, adapts in enumerate(adapted_layers) if adapts]
    for rates_L in rates_KL:
        with torch.enable_grad():
            output_BS, inputs, outputs = forward(states)
            gradients = torch.autograd.grad(
                loss(output_BS).sum(),
                [outputs[index] for index in chosen],
                create_graph=recording and second_order,
                retain_graph=recording,
            )
        for index, gradient_BSo in zip(chosen, gradients, strict=True):
            a_BSi = inputs[index]
            step = gradient_BSo * rates_L[index]
            if not (recording and second_order):
                a_BSi, gradient_BSo = a_BSi.detach(), gradient_BSo.detach()
                step = gradient_BSo * (rates_L[index] if recording else rates_L[index].detach())
            old = states[index]
            if old is None:
                states[index] = LayerState(a_BSi, step)
            elif index == 0:  # its inputs do not change from step to step
                states[index] = LayerState(old.inputs_BSi, old.gradients_BSo + step)
            else:
                states[index] = LayerState(
                    torch.cat([old.inputs_BSi, a_BSi], 1), torch.cat([old.gradients_BSo, step], 1)
                )
    return states
