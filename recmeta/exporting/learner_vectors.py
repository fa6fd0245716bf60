"""What learners say of items, as products of vectors and as layers.

    l(i, S) = u · x_i + f(a_i; θ_u)

u and θ_u are what adaptation found of a user; x_i and a_i are an item's. The closed forms have the
first part alone. Layers that adapt have the second, a chain

    h_0 = [a_i, 1] M_0,   h_l = [max(h_{l−1}, 0), a_i or nothing, 1] M_l        f = the last h

whose matrices M are each user's own; a layer that reads features reads a_i again.

Legend: B users, I items, C columns, F features of an item and its past; i inputs and o outputs of a
layer.
"""

import dataclasses
from typing import Self

import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinear
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import (
    FactorRows,
    WeightedRidge,
    scale_of,
)
from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, PreparedRows
from recmeta.metalearn.inner_loop.on_base import LAYERS, OnBase, OnPosterior, RowsOfBoth
from recmeta.metalearn.learner import MetaLearner, Params, UserState
from recmeta.metalearn.member_config import of_member, without_members
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks.estimators.preference import PreferenceNetwork
from recmeta.metalearn.tensors.batch import Rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerVectors:
    """A learner's part of scores."""

    linear: BayesianLinear | WeightedRidge | None
    """The closed form; None if layers adapt alone."""
    linear_params: Params
    linear_rows: Rows
    """The catalogue, as the closed form prepares it."""
    layers: MAML | None
    """The layers; None if there are none, or if they have no output."""
    layer_params: Params
    layer_rows: Rows

    @classmethod
    def of(cls, model: Model, params: Params, rows: Rows) -> Self:
        """Return the part of a model's learner.

        Args:
            params: with what the learner derives from them.
            rows: the catalogue, as the learner prepares it.

        Raises:
            UserError: for a learner whose scores are not such a sum.
        """
        learner = model.learner
        linear: MetaLearner | None = learner
        layers: MetaLearner | None = None
        of_linear = of_layers = rows
        linear_params = layer_params = params
        if type(learner) in (OnBase, OnPosterior):
            assert isinstance(learner, OnBase)
            linear, linear_params = learner.base, of_member(0, params)
            if isinstance(rows, RowsOfBoth):
                layers, layer_params = learner.layers, without_members(params)
                of_linear, of_layers = rows.of_base, rows.of_layers
        elif type(learner) is MAML:
            linear, layers = None, learner
        is_linear = isinstance(linear, BayesianLinear) and linear.is_graded
        has_place = linear is None or is_linear or type(linear) is WeightedRidge
        if not has_place or not (layers is None or _is_chain(layers)):
            raise UserError(
                f"the scores of this model's learner, {model.algorithm!r}, are not a sum of "
                "products of vectors and of a chain of layers, so it has no capsules: train "
                "'bayesian-linear' (on ratings), 'weighted-ridge', or 'maml' with a rate for each "
                "layer, by itself or on one of the two."
            )
        assert linear is None or isinstance(linear, BayesianLinear | WeightedRidge)
        assert layers is None or isinstance(layers, MAML)
        return cls(
            linear=linear,
            linear_params=linear_params,
            linear_rows=of_linear,
            layers=layers,
            layer_params=layer_params,
            layer_rows=of_layers,
        )

    def items(self) -> torch.Tensor:
        """Return (I, C) x."""
        params, rows = self.linear_params, self.linear_rows
        if isinstance(self.linear, BayesianLinear):
            offset_1I, design_1IW, _ = self.linear.linear_parts(params, rows)
            return torch.cat([offset_1I[0, :, None], design_1IW[0]], 1)
        if self.linear is not None:
            assert isinstance(rows, FactorRows)
            return rows.vector_BRF[0]
        # Layers alone may start from the item's mean.
        assert self.layers is not None
        nothing_I = torch.zeros_like(rows.statistics_BRD[0, :, 0])
        network = self.layers.network
        assert isinstance(network, PreferenceNetwork)
        return network.started(nothing_I, rows.statistics_BRD[0])[:, None]

    def users(self, state: UserState) -> torch.Tensor:
        """Return (B, C) u.

        Args:
            state: as `adapt` gives it.
        """
        if self.linear is None:
            return torch.ones((len(state["user"]), 1), device=state["user"].device)
        weights_BW = state["weights"]
        if isinstance(self.linear, BayesianLinear):
            return torch.cat([torch.ones_like(weights_BW[:, :1]), weights_BW], 1)
        return weights_BW * scale_of(self.linear_params)

    def features(self) -> torch.Tensor | None:
        """Return (I, F) a; None without layers."""
        if self.layers is None:
            return None
        assert isinstance(self.layer_rows, PreparedRows)
        assert self.layer_rows.catalogue is not None
        return self.layer_rows.catalogue.feature_IF[:, :-1]  # which ends with the 1

    def chain(self) -> list[dict[str, int | bool]]:
        """Return of each layer its number of outputs, `width`, and whether it `reads_features`;
        none without layers."""
        if self.layers is None:
            return []
        network = self.layers.network
        assert isinstance(network, PreferenceNetwork)
        return [
            {"width": width, "reads_features": layer in network.feature_layers}
            for layer, (width, _) in enumerate(network.layer_shapes)
        ]

    def matrices(self, state: UserState) -> list[torch.Tensor]:
        """Return (B, i, o) M of each layer: rows of hidden inputs, of features, and of the 1."""
        if self.layers is None:
            return []
        network, catalogue = self.layers.network, self.layers.catalogue
        assert isinstance(network, PreferenceNetwork)
        assert catalogue is not None
        own = {n.removeprefix(LAYERS): t for n, t in state.items() if n.startswith(LAYERS)} or state
        settled, params = catalogue.settle(self.layer_params, own), self.layer_params
        num_users = len(own["user"])
        found = []
        for layer in range(network.num_layers):
            weight_oi = params[f"layer.{layer}.weight"]
            parts = []
            if layer > 0:
                num_hidden = network.config.hidden_dims[layer - 1]
                shared_Bio = weight_oi[:, :num_hidden].T.expand(num_users, -1, -1)
                parts.append(settled.get(f"weights.{layer}", shared_Bio))
            if layer in network.feature_layers:
                parts.append(_of_features(network, params, settled, layer))
            else:
                bias_o = params[f"layer.{layer}.bias"].expand(num_users, 1, -1)
                parts.append(settled.get(f"constant.{layer}", bias_o))
            found.append(torch.cat(parts, 1))
        return found


def _is_chain(layers: object) -> bool:
    """Return whether layers adapt as a `PairLoop` has it, as their catalogue shows."""
    return type(layers) is MAML and layers.catalogue is not None


def _of_features(
    network: PreferenceNetwork, params: Params, settled: UserState, layer: int
) -> torch.Tensor:
    """Return (B, F + 1, o) what multiplies an item's features and 1 in a layer: the weights that
    all users share, and what adaptation and the user's own features add."""
    name = "map" if layer == 0 else f"map.{layer}"
    own_BFo = settled[name] if name in settled else settled["known"].mT @ settled["by_known"]
    _, *of_items = network.feature_weights(params, layer)
    shared_Fo = torch.cat(of_items, 1).T
    nothing_1o = torch.zeros_like(shared_Fo[:1])
    return own_BFo + torch.cat([shared_Fo, nothing_1o])
