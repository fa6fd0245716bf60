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

Parts = tuple[torch.Tensor, ...]
"""A layer's inputs in parts, to be read side by side: (B, R, i) each, with 1 for R where a user's
rows share a part, and 1 for B where all users do. What is shared is computed once."""


@dataclasses.dataclass(frozen=True)
class LayerState:
    """How one user-adapted linear layer differs from the shared one."""

    inputs: Parts
    """The layer's inputs on the support rows, step after step."""
    gradients_BSo: torch.Tensor
    """The loss gradients at its outputs, times the inner rate."""


Forward = Callable[
    [Sequence[LayerState | None]], tuple[torch.Tensor, list[Parts], list[torch.Tensor]]
]
"""Given a state per layer (None: not adapted), returns the support outputs (B, S) and, per layer,
its inputs and its outputs (B, S, o)."""


def linear(
    inputs: Parts, weight_oi: torch.Tensor, bias_o: torch.Tensor, state: LayerState | None
) -> torch.Tensor:
    """Return the output (B, R, o) of a linear layer as each user has adapted it."""
    weights = torch.split(weight_oi, [part.shape[-1] for part in inputs], dim=1)
    z_BRo = F.linear(inputs[0], weights[0], bias_o)
    for part, weight in zip(inputs[1:], weights[1:], strict=True):
        z_BRo = z_BRo + F.linear(part, weight)
    if state is None:
        return z_BRo
    if _many_rows(inputs, state):
        return z_BRo - _by_weights(inputs, state)
    # a Aᵀ + 1: the product of the parts joined is the sum of the parts' products
    gram_BRS = inputs[0] @ state.inputs[0].transpose(1, 2) + 1
    for part, known in zip(inputs[1:], state.inputs[1:], strict=True):
        gram_BRS = gram_BRS + part @ known.transpose(1, 2)
    return z_BRo - gram_BRS @ state.gradients_BSo


def _many_rows(inputs: Parts, state: LayerState) -> bool:
    """Return whether it takes fewer multiplications to form the user's weights first.

    (a Aᵀ) G costs R·S·(i + o) for R rows, a (Aᵀ G) costs (R + S)·i·o: where a catalogue is scored,
    or sampled negatives make the support long, the second is less.
    """
    num_rows = max(part.shape[1] for part in inputs)
    num_known, width_out = state.gradients_BSo.shape[1:]
    width_in = sum(part.shape[2] for part in inputs)
    by_gram = num_rows * num_known * (width_in + width_out)
    return by_gram > (num_rows + num_known) * width_in * width_out


def _by_weights(inputs: Parts, state: LayerState) -> torch.Tensor:
    """Return (a Aᵀ + 1) G as a (Aᵀ G) + 1ᵀ G."""
    total_B1o = state.gradients_BSo.sum(1, keepdim=True)
    change = total_B1o
    for part, known in zip(inputs, state.inputs, strict=True):
        is_shared = known.shape[1] != state.gradients_BSo.shape[1]
        gradients = total_B1o if is_shared else state.gradients_BSo
        change = change + part @ (known.transpose(1, 2) @ gradients)
    return change


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
            known, rate = inputs[index], rates_L[index]
            if not (recording and second_order):
                known = tuple(part.detach() for part in known)
                gradient_BSo = gradient_BSo.detach()
            if not recording:
                rate = rate.detach()
            step = LayerState(known, gradient_BSo * rate)
            old = states[index]
            states[index] = step if old is None else _followed_by(old, step, same=index == 0)
    return states


def _followed_by(first: LayerState, second: LayerState, *, same: bool) -> LayerState:
    """Return the state after two steps; `same` says that the inputs of both are the same."""
    if same:
        return LayerState(first.inputs, first.gradients_BSo + second.gradients_BSo)
    num_rows = second.gradients_BSo.shape[1]
    inputs = tuple(
        torch.cat([before, after], 1) if after.shape[1] == num_rows else before
        for before, after in zip(first.inputs, second.inputs, strict=True)
    )
    return LayerState(inputs, torch.cat([first.gradients_BSo, second.gradients_BSo], 1))
