"""Gradient steps on every user's decision layers at once, without a copy of the weights per user.

For a linear layer z = a Wᵀ + b, the gradient of the support loss is ∇W = Gᵀ A and ∇b = Gᵀ 1, where
A are the layer's inputs on the user's support rows and G is the loss gradient at its outputs. A
step of rate α therefore changes the layer's output on any row a by −α (a Aᵀ + 1) G: the adapted
layer *is* the pair (A, −αG). Inputs that no step changes (a user's and an item's features, the 1 of
the bias) need their products a Aᵀ only once, and the G of several steps add up. Hidden inputs
change with every step: their pairs are concatenated, or folded into weights of the user's own where
that takes fewer multiplications. In ordinary differentiable operations, back-propagation through
this is the exact second-order MAML gradient (Finn, Abbeel, Levine, ICML 2017).

Legend: B users, S support rows (padded), T rows of the pairs, R rows, i layer inputs, o layer
outputs.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from recmeta.metalearn.numerics.differentiable import before_relu, gram, moment

Parts = tuple[torch.Tensor, ...]
"""Features in parts, which are concatenated: (B, R, i) each, with 1 for R where a user's rows share
a part, and 1 for B where all users do. Products of shared parts are computed once."""


@dataclasses.dataclass(frozen=True)
class LayerState:
    """How one user-adapted linear layer differs from the shared one."""

    by_features_BSo: torch.Tensor | None
    """Minus the loss gradients at the layer's outputs, times the rates, summed over the steps: the
    adaptation that acts through the features. None if the layer reads no features."""
    hidden_BTi: torch.Tensor | None = None
    """The layer's hidden inputs on the support rows in the steps that are not folded, concatenated,
    or None if there are none."""
    by_hidden_BTo: torch.Tensor | None = None
    """Minus the loss gradients times the rates in the same steps."""
    weights_Bio: torch.Tensor | None = None
    """Each user's own weights of the hidden inputs after the folded steps, or None if no step is
    folded."""
    constant_B1o: torch.Tensor | None = None
    """Each user's own bias after these steps, if the layer reads no features."""


class Features:
    """The features of rows, and those of the support rows, for every layer that reads them."""

    def __init__(self, parts: Parts, known: Parts | None = None) -> None:
        self.parts = parts
        self.known = known
        """The features of the support rows, or None if nothing has adapted."""
        self._gram_BRS: torch.Tensor | None = None

    @property
    def num_rows(self) -> int:
        """R"""
        return max(part.shape[1] for part in self.parts)

    def change(self, z_BRo: torch.Tensor, by_features_BSo: torch.Tensor) -> torch.Tensor:
        """Return a layer's output plus the adaptation through features and bias."""
        assert self.known is not None
        width_in = sum(part.shape[2] for part in self.parts if part.shape[1] == self.num_rows)
        num_known, width_out = by_features_BSo.shape[1:]
        if self._gram_BRS is None and _weights_pay(self.num_rows, num_known, width_in, width_out):
            return z_BRo + self._by_weights(by_features_BSo)
        if self._gram_BRS is None:
            self._gram_BRS = self._products()
        return torch.baddbmm(z_BRo, self._gram_BRS, by_features_BSo)

    def _products(self) -> torch.Tensor:
        """Return a Aᵀ + 1, (B, R, S): the product of the concatenated parts is the sum of the
        parts' products. The smallest comes first, since they broadcast."""
        assert self.known is not None
        products = [gram(part, known) for part, known in zip(self.parts, self.known, strict=True)]
        first, *others = sorted(products, key=torch.Tensor.numel)
        gram_BRS = first + 1
        for product in others:
            gram_BRS = gram_BRS + product
        return gram_BRS

    def _by_weights(self, by_features_BSo: torch.Tensor) -> torch.Tensor:
        """Return (a Aᵀ + 1) G as a (Aᵀ G) + 1ᵀ G."""
        assert self.known is not None
        total_B1o = by_features_BSo.sum(1, keepdim=True)
        change = total_B1o
        for part, known in zip(self.parts, self.known, strict=True):
            is_shared = known.shape[1] != by_features_BSo.shape[1]
            change = change + part @ moment(known, total_B1o if is_shared else by_features_BSo)
        return change


def by_hidden(
    hidden_BRi: torch.Tensor,
    weight_oi: torch.Tensor,
    bias_o: torch.Tensor | None,
    z_BRo: torch.Tensor | None,
    state: LayerState | None,
) -> tuple[torch.Tensor, LayerState | None]:
    """Return a linear layer's output from hidden inputs, as each user has adapted it, and the state
    it was computed from, from which the next step continues.

    Args:
        hidden_BRi: the layer's hidden inputs.
        weight_oi: their weights.
        bias_o: the bias, if the layer reads no features.
        z_BRo: the output of features and bias, if it does.
        state: how the layer has adapted, or None if it has not.
    """
    if state is not None and state.hidden_BTi is not None:
        num_rows, width_in = hidden_BRi.shape[1:]
        width_out = len(weight_oi)
        if num_rows * (width_in + width_out) > width_in * width_out:
            state = folded(state, weight_oi, bias_o)
    if state is None or state.weights_Bio is None:
        z = F.linear(hidden_BRi, weight_oi, bias_o)
        if z_BRo is not None:
            z = z + z_BRo
    else:  # the user's own weights replace the shared ones, so that a Wᵀ costs nothing extra
        constant = state.constant_B1o if z_BRo is None else z_BRo
        assert constant is not None, "a layer without features has folded its bias, too"
        z = torch.baddbmm(constant, hidden_BRi, state.weights_Bio)
    if state is None or state.hidden_BTi is None or state.by_hidden_BTo is None:
        return z, state
    gram_BRT = gram(hidden_BRi, state.hidden_BTi)
    if z_BRo is None:
        gram_BRT = gram_BRT + 1  # the bias is an input that is always 1
    return _plus(z, gram_BRT, state.by_hidden_BTo), state


def folded(state: LayerState, weight_oi: torch.Tensor, bias_o: torch.Tensor | None) -> LayerState:
    """Return the state with all pairs folded into the weights."""
    assert state.hidden_BTi is not None
    assert state.by_hidden_BTo is not None
    weights = weight_oi.T if state.weights_Bio is None else state.weights_Bio
    constant: torch.Tensor | None = None
    if bias_o is not None:
        before = bias_o if state.constant_B1o is None else state.constant_B1o
        constant = before + state.by_hidden_BTo.sum(1, keepdim=True)
    weights_Bio = weights + moment(state.hidden_BTi, state.by_hidden_BTo)
    return LayerState(state.by_features_BSo, None, None, weights_Bio, constant)


def _plus(z_BRo: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return z plus a product. It is added in place if no gradient needs the old z, which belongs
    to the layer."""
    if torch.is_grad_enabled() or len(z_BRo) != len(left):
        return torch.baddbmm(z_BRo, left, right)
    return z_BRo.baddbmm_(left, right)


def _weights_pay(num_rows: int, num_known: int, width_in: int, width_out: int) -> bool:
    """Return whether it takes fewer multiplications to form the user's weights first.

    (a Aᵀ) G costs R·S·(i + o) for R rows, a (Aᵀ G) costs (R + S)·i·o: where a catalogue is scored,
    or sampled negatives make the support long, the second is less.
    """
    by_gram = num_rows * num_known * (width_in + width_out)
    return by_gram > (num_rows + num_known) * width_in * width_out


@dataclasses.dataclass(frozen=True)
class Pass:
    """One run of the decision layers."""

    output_BR: torch.Tensor
    hidden: list[torch.Tensor | None]
    """Each layer's hidden inputs (B, R, i), which are outputs of a relu, or None for a layer that
    reads only features."""
    weights: list[torch.Tensor | None]
    """The layers' shared weights of hidden inputs (o, i)."""
    reads_features: list[bool]
    """Which layers read the features."""
    states: list[LayerState | None]
    """The layers' states as they were used."""

    def gradients(self, slope_BR: torch.Tensor, lowest: int) -> dict[int, torch.Tensor]:
        """Return a loss's gradients at the layers' outputs (B, R, o), by layer, from the last layer
        down to `lowest`.

        Args:
            slope_BR: the gradient at the outputs of the last layer.
        """
        gradient_BRo = slope_BR[..., None]
        found = {}
        for layer in range(len(self.hidden) - 1, lowest, -1):
            found[layer] = gradient_BRo
            hidden, weight = self.hidden[layer], self.weights[layer]
            assert hidden is not None
            assert weight is not None
            gradient_BRi = _at_hidden(gradient_BRo, weight, self.states[layer])
            gradient_BRo = before_relu(gradient_BRi, hidden)
        return found | {lowest: gradient_BRo}


def _at_hidden(
    gradient_BRo: torch.Tensor, weight_oi: torch.Tensor, state: LayerState | None
) -> torch.Tensor:
    """Return the gradient at a layer's hidden inputs, given that at its outputs: g W, and for pairs
    (g Gᵀ) A, the transpose of `by_hidden`."""
    if state is None or state.weights_Bio is None:
        gradient_BRi = gradient_BRo @ weight_oi
    else:
        gradient_BRi = gradient_BRo @ state.weights_Bio.mT
    if state is None or state.hidden_BTi is None or state.by_hidden_BTo is None:
        return gradient_BRi
    return _plus(gradient_BRi, gram(gradient_BRo, state.by_hidden_BTo), state.hidden_BTi)


Forward = Callable[[Sequence[LayerState | None]], Pass]
"""Runs the network on the support, given a state per layer, which is None for a layer that has not
adapted."""


def adapt(
    forward: Forward,
    slope: Callable[[torch.Tensor], torch.Tensor],
    rates: torch.Tensor | Sequence[float],
    adapted_layers: Sequence[bool],
    *,
    second_order: bool,
) -> list[LayerState | None]:
    """Take K gradient steps on the support loss, for all users at once.

    The steps' gradients are written out, so that nothing is recorded for them: without an outer
    gradient, adapting is a chain of plain operations.

    Args:
        forward: runs the network on the support.
        slope: from support outputs (B, S) to the derivatives of the users' losses (B, S); 0 where
            padded.
        rates: inner learning rates, (K, L) by step and layer, or K numbers that all layers share,
            which are cheaper.
        adapted_layers: which layers adapt; all for MAML, only the last for ANIL.
        second_order: whether the outer gradient, if one is being recorded, goes through the steps.
            False gives first-order MAML.

    Returns:
        A state per layer, or None for a layer that does not adapt.
    """
    recording = torch.is_grad_enabled()
    states: list[LayerState | None] = [None] * len(adapted_layers)
    chosen = [index for index, adapts in enumerate(adapted_layers) if adapts]
    for step in range(len(rates)):
        rate = rates[step]
        run = forward(states)
        with torch.set_grad_enabled(recording and second_order):
            descent_BS = slope(run.output_BR) * (-1.0 if isinstance(rate, torch.Tensor) else -rate)
            gradients = run.gradients(descent_BS, chosen[0])
        for index in chosen:
            hidden, gradient_BSo = run.hidden[index], gradients[index]
            if not second_order:
                hidden = None if hidden is None else hidden.detach()
            if isinstance(rate, torch.Tensor):
                gradient_BSo = gradient_BSo * rate[index]
            states[index] = _after(
                run.states[index], hidden, gradient_BSo, run.reads_features[index]
            )
    return states


def _after(
    old: LayerState | None,
    hidden_BSi: torch.Tensor | None,
    gradient_BSo: torch.Tensor,
    reads_features: bool,
) -> LayerState:
    """Return a layer's state after one more step."""
    old = old or LayerState(None)
    by_features, hidden, by_hidden = old.by_features_BSo, old.hidden_BTi, old.by_hidden_BTo
    if reads_features:
        by_features = gradient_BSo if by_features is None else by_features + gradient_BSo
    if hidden_BSi is not None:
        hidden = hidden_BSi if hidden is None else torch.cat([hidden, hidden_BSi], 1)
        by_hidden = gradient_BSo if by_hidden is None else torch.cat([by_hidden, gradient_BSo], 1)
    return LayerState(by_features, hidden, by_hidden, old.weights_Bio, old.constant_B1o)
