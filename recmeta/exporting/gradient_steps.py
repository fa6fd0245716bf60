"""MAML as a graph: the gradient steps of one user, spelled out.

    z_0 = a W_0ᵀ + b_0,  h_l = max(z_{l−1}, 0),  z_l = h_l W_lᵀ (+ a V_lᵀ) + b_l
    W_l ← W_l − α_l ∇W_l,  ∇W_l = G_lᵀ h_l       G_l: the support loss's gradient at z_l

With one user there are weights to change, so that a catalogue costs what the network costs; the
server keeps pairs of inputs and gradients instead (`recmeta.metalearn.networks.adapted_layers`).

Legend: R known rows (padded), I items, N rows, F embedded features of user, item and its past; i
inputs and o outputs of a layer.
"""

import dataclasses

import numpy as np
import torch

from recmeta.errors import UserError
from recmeta.exporting.closed_forms import Expected
from recmeta.exporting.graph import Graph, Value
from recmeta.exporting.known_user import KnownUser, array, looked_up
from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, PreparedRows
from recmeta.metalearn.inner_loop.objectives import ObjectiveName
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork
from recmeta.metalearn.tensors.batch import Rows


@dataclasses.dataclass(frozen=True)
class _Layer:
    """One decision layer as a user has adapted it; None where it does not read such inputs."""

    hidden_oi: Value | None
    features_oF: Value | None
    bias_o: Value


@dataclasses.dataclass(frozen=True)
class _Rates:
    """How far a step changes a layer's weights and bias."""

    hidden: Value
    features: Value
    bias: Value


def maml(learner: MAML, params: Params, items: Rows, user: KnownUser) -> Expected:
    """Return the outputs of layers that have adapted to a user.

    Args:
        items: the catalogue, as the learner prepares it.
        user: with the values that the layers fit.

    Raises:
        UserError: for a network that is not a chain of linear layers.
    """
    network, graph = learner.network, user.graph
    if not isinstance(network, PreferenceNetwork):
        raise UserError(
            "the network is not a chain of linear layers (layer_norm, num_factors, or one of your "
            "own), whose gradient steps a graph does not spell out: train the default network."
        )
    assert isinstance(items, PreparedRows)
    parts = [items.embedded.tables[0][0]]
    if network.config.use_statistics:
        parts.append(items.statistics_BRD[0])
    item_IF = graph.constant(torch.cat(parts, -1).cpu().numpy(), "items.features")
    start_I = np.zeros((len(parts[0])), np.float32)
    if network.starts_from_item_mean:
        start_I = items.statistics_BRD[0, :, 0].cpu().numpy()
    started_I = graph.constant(start_I, "items.start")

    user_F = _of_user(network, params, user)
    known_RF = item_IF.rows(user.item_R)
    if user_F is not None:
        ones_R1 = 1.0 + 0.0 * known_RF.columns(0, 1)
        known_RF = graph.joined(ones_R1 @ user_F.reshaped(1, -1), known_RF, axis=1)
    started_R, num_1 = started_I.rows(user.item_R), user.num_rows_1
    confidence_1 = num_1 / (num_1 + learner.steps.support_prior).clipped(1.0)
    layers = [_layer(graph, network, params, index) for index in range(network.num_layers)]
    for step in range(learner.steps.num_steps):
        output_R, hidden = _forward(graph, layers, known_RF, started_R)
        slope_R = _slope(learner.steps.objective, output_R, user) * confidence_1
        rates = _rates(graph, learner, params, step)
        layers = _after_step(layers, rates, hidden, known_RF, slope_R)
    known_R, _ = _forward(graph, layers, known_RF, started_R)
    if user_F is not None:
        layers = _of_items(network, layers, user_F)
    every_I, _ = _forward(graph, layers, item_IF, started_I)
    return Expected(known_R, every_I)


def _of_user(network: PreferenceNetwork, params: Params, user: KnownUser) -> Value | None:
    """Return (F,) what the layers see of the user; None if that is nothing."""
    parts = [
        looked_up(user, field, params[f"embedding.user.{field.name}"], reads_unknown=True)
        if field.is_coded
        else user.profile[field.name]
        for field in network.user_fields
    ]
    return user.graph.joined(*parts) if parts else None


def _layer(graph: Graph, network: PreferenceNetwork, params: Params, index: int) -> _Layer:
    name = f"layer.{index}"
    weight_oi = array(params, f"{name}.weight")
    features_oF = hidden_oi = None
    first = 0  # of the features, among the inputs
    if index > 0:
        first = network.config.hidden_dims[index - 1]
        hidden_oi = graph.constant(weight_oi[:, :first], f"{name}.hidden")
    if index in network.feature_layers:
        features_oF = graph.constant(weight_oi[:, first:], f"{name}.features")
    return _Layer(hidden_oi, features_oF, graph.constant(array(params, f"{name}.bias"), name))


def _forward(
    graph: Graph, layers: list[_Layer], feature_NF: Value, started_N: Value
) -> tuple[Value, list[Value | None]]:
    """Return the outputs (N,), and each layer's hidden inputs (N, i); None for the first layer."""
    inputs: list[Value | None] = []
    hidden: Value | None = None
    z_No: Value | None = None
    for index, layer in enumerate(layers):
        inputs.append(hidden)
        z_No = None
        for x_Ni, weight_oi in ((hidden, layer.hidden_oi), (feature_NF, layer.features_oF)):
            if x_Ni is not None and weight_oi is not None:
                product_No = x_Ni @ weight_oi.T
                z_No = product_No if z_No is None else z_No + product_No
        assert z_No is not None, "a layer reads hidden inputs or features"
        z_No = z_No + layer.bias_o
        if index < len(layers) - 1:
            hidden = graph.relu(z_No)
    assert z_No is not None, "there is a layer"
    return z_No.reshaped(-1) + started_N, inputs


def _slope(objective: ObjectiveName, output_R: Value, user: KnownUser) -> Value:
    """Return (R,) how each output moves the mean loss of the rows: see `slope_of`."""
    graph, counts_R = user.graph, user.counts_R
    error_R = output_R - user.value_R
    if objective == "squared":
        slope_R = 2.0 * error_R
    elif objective == "absolute":
        slope_R = graph.op("Sign", error_R)
    elif objective == "bce":
        slope_R = graph.op("Sigmoid", output_R) - user.value_R
    else:
        raise UserError(
            f"inner_objective is {objective!r}, whose steps a graph does not spell out: train with "
            "'squared', 'absolute' or 'bce'."
        )
    return slope_R * counts_R / user.num_rows_1.clipped(1.0)


def _after_step(
    layers: list[_Layer],
    rates: list[_Rates | None],
    hidden: list[Value | None],
    known_RF: Value,
    slope_R: Value,
) -> list[_Layer]:
    """Return the layers after a gradient step.

    Args:
        rates: of each layer; None for one that does not adapt.
        hidden: each layer's hidden inputs (R, i).
        slope_R: how each output moves the loss.
    """
    found, gradient_Ro = list(layers), slope_R.reshaped(-1, 1)
    for index in range(len(layers) - 1, -1, -1):
        layer, inputs_Ri, rate = layers[index], hidden[index], rates[index]
        if rate is not None:
            found[index] = _changed(layer, rate, inputs_Ri, known_RF, gradient_Ro)
        if inputs_Ri is not None:
            assert layer.hidden_oi is not None, "it has made use of them"
            is_on_Ri = (inputs_Ri > 0.0).to(np.float32)
            gradient_Ro = (gradient_Ro @ layer.hidden_oi) * is_on_Ri
    return found


def _changed(
    layer: _Layer, rate: _Rates, inputs_Ri: Value | None, known_RF: Value, gradient_Ro: Value
) -> _Layer:
    """Return a layer after a step along minus the gradient at its outputs."""
    hidden_oi, features_oF = layer.hidden_oi, layer.features_oF
    if hidden_oi is not None and inputs_Ri is not None:
        hidden_oi = hidden_oi - rate.hidden * (gradient_Ro.T @ inputs_Ri)
    if features_oF is not None:
        features_oF = features_oF - rate.features * (gradient_Ro.T @ known_RF)
    return _Layer(hidden_oi, features_oF, layer.bias_o - rate.bias * gradient_Ro.sum(0))


def _rates(graph: Graph, learner: MAML, params: Params, step: int) -> list[_Rates | None]:
    """Return each layer's rates in a step: one number, or one for each of its weights."""
    network, found = learner.network, list[_Rates | None]()
    assert isinstance(network, PreferenceNetwork)
    for index, adapts in enumerate(learner.steps.adapted_layers):
        if not adapts:
            found.append(None)
            continue
        names = (f"layer.{index}.weight", f"layer.{index}.bias")
        weight, bias = (
            np.asarray(torch.as_tensor(learner.steps.rate_of(params, name, step)).cpu(), np.float32)
            for name in names
        )
        num_hidden = network.config.hidden_dims[index - 1] if index else 0
        parts = (weight, weight)
        if weight.ndim:
            parts = (weight[:, :num_hidden], weight[:, num_hidden:])
        found.append(_Rates(*(graph.constant(rate, "rate") for rate in (*parts, bias))))
    return found


def _of_items(network: PreferenceNetwork, layers: list[_Layer], user_F: Value) -> list[_Layer]:
    """Return the layers as they read items alone: what they make of the user joins the bias."""
    width = network.feature_widths[0]
    found = []
    for layer in layers:
        if layer.features_oF is not None:
            of_user_oF = layer.features_oF.columns(0, width)
            of_item_oF = layer.features_oF.columns(width, sum(network.feature_widths))
            layer = _Layer(layer.hidden_oi, of_item_oF, layer.bias_o + of_user_oF @ user_F)
        found.append(layer)
    return found
