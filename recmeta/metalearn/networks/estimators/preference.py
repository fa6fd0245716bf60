"""MeLU's preference estimator (Lee et al., KDD 2019, figure 2) over declared features.

Embeddings of a user's and an item's features, shared by all users, are joined and pass through
decision layers, which adapt to each user. There are two optional additions: the statistics of the
item's past join the features, and the output can start from the item's shrunk mean.

Legend: B users, R rows, U distinct items of a batch, F embedded features, D item statistics.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.adapted_layers import Features, LayerState, Parts, Pass, by_hidden
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.embedding import EmbeddingNetwork
from recmeta.metalearn.networks.network import EmbeddedItems, JoinedRows
from recmeta.metalearn.numerics.differentiable import relu
from recmeta.metalearn.tensors.encoding import Features as Encoded
from recmeta.metalearn.tensors.encoding import Field


class PreferenceNetwork(EmbeddingNetwork):
    """A chain of linear layers in the form that adapts without weights per user."""

    def __init__(
        self,
        config: PreferenceConfig,
        user_fields: Sequence[Field],
        item_fields: Sequence[Field],
        *,
        graded: bool,
    ) -> None:
        if not config.is_linear:
            raise ValueError("layer_norm and num_factors need an InteractingNetwork.")
        super().__init__(config, user_fields, item_fields, graded=graded)

    def embed_items(self, params: Params, features: Encoded, item_U: torch.Tensor) -> EmbeddedItems:
        """Return items with their half of the layers' products with features. Call it once for each
        distinct item."""
        embedded_UF = self.embedded_items(params, features, item_U)
        products = [
            # Rows' gradients are summed in the type of these tables: float32 under autocast too.
            F.linear(embedded_UF, self.feature_weights(params, layer)[1]).to(embedded_UF.dtype)
            for layer in self.feature_layers
        ]
        return EmbeddedItems([embedded_UF, *products])

    def join(
        self,
        params: Params,
        user_BF: torch.Tensor,
        item: EmbeddedItems,
        statistics_BRD: torch.Tensor,
    ) -> JoinedRows:
        """Return the features of rows, and the layers' products with them before adaptation.

        Args:
            item: gathered to (B, R, ·), with 1 for B where all users share the rows.
            statistics_BRD: as in `Rows`.
        """
        user_B1F = user_BF[:, None]
        embedded_BRF, *item_products = item.tables
        parts: Parts = (user_B1F, embedded_BRF)
        statistics = None
        if self.config.use_statistics:
            statistics = statistics_BRD.to(user_BF.dtype)
            parts = (*parts, statistics)
        products = []
        for layer, item_product in zip(self.feature_layers, item_products, strict=True):
            of_user, _, of_statistics = self.feature_weights(params, layer)
            z_BRo = F.linear(user_B1F, of_user, params[f"layer.{layer}.bias"]) + item_product
            if statistics is not None:
                z_BRo = z_BRo + F.linear(statistics, of_statistics)
            products.append(z_BRo)
        return JoinedRows(parts, products, statistics_BRD)

    def decide(
        self,
        params: Params,
        rows: JoinedRows,
        features: Features,
        states: Sequence[LayerState | None],
    ) -> Pass:
        """Run the decision layers as each user has adapted them.

        Args:
            features: the features of the rows and of the support.
            states: per layer; None for a layer that has not adapted.
        """
        hidden: torch.Tensor | None = None
        run = Pass(rows.products[0], [], [], [], [])
        z = rows.products[0]
        for index in range(self.num_layers):
            reads_features = index in self.feature_layers
            weight, bias = params[f"layer.{index}.weight"], params[f"layer.{index}.bias"]
            state = states[index]
            z_BRo: torch.Tensor | None = None
            hidden_weight: torch.Tensor | None = None
            if reads_features:
                z_BRo = rows.products[0 if hidden is None else 1]
                if state is not None and state.by_features_BSo is not None:
                    z_BRo = features.change(z_BRo, state.by_features_BSo)
            if hidden is not None:
                hidden_weight = weight[:, : hidden.shape[-1]]
                own_bias = None if reads_features else bias
                z_BRo, state = by_hidden(hidden, hidden_weight, own_bias, z_BRo, state)
            assert z_BRo is not None, "the first layer reads features, the others hidden inputs"
            z = z_BRo
            run.hidden.append(hidden)
            run.weights.append(hidden_weight)
            run.reads_features.append(reads_features)
            run.states.append(state)
            if index < self.num_layers - 1:
                # The next step needs the first layer's products as they are.
                in_place = hidden is not None and not torch.is_grad_enabled()
                hidden = z.relu_() if in_place else relu(z)
        return dataclasses.replace(run, output_BR=self.started(z[..., 0], rows.statistics_BRD))

    def last_inputs(
        self,
        params: Params,
        user_F: torch.Tensor,
        item_RF: torch.Tensor,
        statistics_RD: torch.Tensor,
    ) -> torch.Tensor:
        """Return the last layer's inputs for rows, (R, H) or (B, R, H), in plain operations."""
        feature_RF = self.joined(user_F, item_RF, statistics_RD)
        x = feature_RF
        for index in range(self.num_layers - 1):
            x = F.linear(x, params[f"layer.{index}.weight"], params[f"layer.{index}.bias"])
            x = torch.relu(x)
        return torch.cat([x, feature_RF], -1) if len(self.feature_layers) > 1 else x

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """The layers that read features: the first and, if the network is wide, the last."""
        last = self.num_layers - 1
        return (0, last) if last > 0 and self.config.wide else (0,)

    def feature_weights(self, params: Params, layer: int) -> Sequence[torch.Tensor]:
        """Return a layer's weights of the user's features, of the item's and of the statistics."""
        widths = list(self.feature_widths)
        weight_oi = params[f"layer.{layer}.weight"]
        return torch.split(weight_oi[:, weight_oi.shape[1] - sum(widths) :], widths, 1)


NETWORK = PreferenceNetwork
