"""Scores of a whole catalogue for users who have adapted linear layers.

The outputs are those of `by_pairs.py`, but everything that users or items share is computed once:
the layers' products with an item before any user adapts, when the catalogue is prepared; the effect
of a user's own rows on any item, when the user is settled. Only the products remain for each pair
of user and item. No gradients are recorded.

Legend: B users, S support rows, N = S + 1 rows that a user has of their own, I items, F features of
an item and its past, and 1; i layer inputs, o layer outputs.
"""

import dataclasses

import torch
import torch.nn.functional as F

from recmeta.metalearn.inner_loop.by_pairs import layer_state
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.networks.adapted_layers import folded
from recmeta.metalearn.networks.network import EmbeddedItems, LinearNetwork
from recmeta.metalearn.tensors.batch import Rows

PAIRS_IN_CACHE = 4_096
"""The number of pairs of user and item that go through the layers together on a CPU: 64 columns of
them are 1 MB, which stays in a core's cache from layer to layer. Products that need no cache take
more."""


@dataclasses.dataclass(frozen=True)
class CatalogueItems:
    """Items, prepared for settled users."""

    feature_IF: torch.Tensor
    products: list[torch.Tensor]
    """(1, I, o) the products of each layer that reads features with the items and their past."""
    statistics_1ID: torch.Tensor


class CatalogueLoop:
    """Scores a catalogue for users whom a `PairLoop` has adapted."""

    def __init__(self, network: LinearNetwork) -> None:
        self.network = network

    def prepare(self, params: Params, items: EmbeddedItems, rows: Rows) -> CatalogueItems:
        """Return items (1 for B) with all work done that no user changes."""
        item_1IF, *products = items.tables
        parts = [item_1IF]
        if self.network.feature_widths[2]:
            statistics = rows.statistics_BRD.to(item_1IF.dtype)
            parts.append(statistics)
            products = [
                product + F.linear(statistics, self.network.feature_weights(params, layer)[2])
                for layer, product in zip(self.network.feature_layers, products, strict=True)
            ]
        feature_1IF = torch.cat([*parts, torch.ones_like(products[0][..., :1])], -1)
        return CatalogueItems(feature_1IF[0], products, rows.statistics_BRD)

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users with all work done that does not depend on the items."""
        first, *others = self.network.feature_layers
        known_BNF = _known(state, sum(self.network.feature_widths[1:]))
        by_known_BNo = self._by_known(params, state, first)
        num_rows, width = known_BNF.shape[1:]
        settled: UserState = {}
        # (a Aᵀ) G or a (Aᵀ G), whichever takes fewer multiplications for an item
        if num_rows * (width + by_known_BNo.shape[2]) > width * by_known_BNo.shape[2]:
            settled["map"] = known_BNF.mT @ by_known_BNo
        else:
            settled |= {"known": known_BNF, "by_known": by_known_BNo}
        for layer in others:
            settled[f"map.{layer}"] = known_BNF.mT @ self._by_known(params, state, layer)
        for layer in range(1, self.network.num_layers):
            own = layer_state(state, layer)
            if own is None:
                continue
            if own.hidden_BTi is not None:
                weight, bias = params[f"layer.{layer}.weight"], params[f"layer.{layer}.bias"]
                hidden_oi = weight[:, : own.hidden_BTi.shape[2]]
                own = folded(own, hidden_oi, None if layer in others else bias)
            if own.weights_Bio is not None:
                settled[f"weights.{layer}"] = own.weights_Bio
            if own.constant_B1o is not None:
                settled[f"constant.{layer}"] = own.constant_B1o
        return settled

    def outputs(self, params: Params, settled: UserState, items: CatalogueItems) -> torch.Tensor:
        """Return settled users' outputs for items, (B, I)."""
        map_or_known = settled["map"] if "map" in settled else settled["known"]
        num_users, num_items = len(map_or_known), len(items.feature_IF)
        gram_BNI = None
        if "known" in settled:
            # One product for all users; the thin side first, which takes half the time for few.
            rows_MF = map_or_known.flatten(0, 1)
            gram_BNI = (rows_MF @ items.feature_IF.T).view(num_users, -1, num_items)
        size = num_users
        if items.feature_IF.device.type == "cpu":
            size = max(1, PAIRS_IN_CACHE // max(num_items, 1))
        parts = [
            self._of_some(
                params,
                {name: t[first : first + size] for name, t in settled.items()},
                items,
                None if gram_BNI is None else gram_BNI[first : first + size],
            )
            for first in range(0, num_users, size)
        ]
        return torch.cat(parts) if parts else map_or_known.new_zeros((0, num_items))

    def _of_some(
        self,
        params: Params,
        settled: UserState,
        items: CatalogueItems,
        gram_BNI: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return outputs (B, I) of users who are few enough for the hidden units to stay in the
        cache."""
        if gram_BNI is None:
            map_BFo = settled["map"]
            feature_BIF = items.feature_IF.expand(len(map_BFo), -1, -1)
            z_BIo = torch.baddbmm(items.products[0], feature_BIF, map_BFo)
        else:
            z_BIo = torch.baddbmm(items.products[0], gram_BNI.mT, settled["by_known"])
        for layer in range(1, self.network.num_layers):
            hidden_BIi = z_BIo.relu_()
            constant = settled.get(f"constant.{layer}", params[f"layer.{layer}.bias"])
            if f"map.{layer}" in settled:  # its bias is one of the features
                constant = self._by_features(settled, items, layer)
            weights_Bio = settled.get(f"weights.{layer}")
            if weights_Bio is None:
                weight_oi = params[f"layer.{layer}.weight"][:, : hidden_BIi.shape[2]]
                weights_Bio = weight_oi.T.expand(len(hidden_BIi), -1, -1)
            z_BIo = torch.baddbmm(constant, hidden_BIi, weights_Bio)
        return self.network.started(z_BIo[..., 0], items.statistics_1ID)

    def _by_features(self, settled: UserState, items: CatalogueItems, layer: int) -> torch.Tensor:
        """Return a later layer's products with the features, (B, I, o)."""
        change_BIo = (settled[f"map.{layer}"].mT @ items.feature_IF.T).mT
        return change_BIo + items.products[self.network.feature_layers.index(layer)]

    def _by_known(self, params: Params, state: UserState, layer: int) -> torch.Tensor:
        """Return (B, N, o) the contribution of users' own rows to a layer's output through
        features: the support's gradients, then the layer's product with the user."""
        user_B1F = state["user"][:, None]
        of_user = self.network.feature_weights(params, layer)[0]
        own_B1o = F.linear(user_B1F, of_user, params[f"layer.{layer}.bias"])
        adapted = layer_state(state, layer)
        if adapted is None or adapted.by_features_BSo is None:
            num_known = state["features.0"].shape[1] if "features.0" in state else 0
            nothing = own_B1o.new_zeros((len(own_B1o), num_known, own_B1o.shape[2]))
            return torch.cat([nothing, own_B1o], 1)
        return torch.cat([adapted.by_features_BSo, own_B1o], 1)


def _known(state: UserState, width: int) -> torch.Tensor:
    """Return (B, N, F) the users' own rows: those of the support, whose last number is the
    contribution of user and bias to the product with an item; then a row that reads the 1 of each
    item."""
    user_BF = state["user"]
    own_B1F = user_BF.new_zeros((len(user_BF), 1, width + 1))
    own_B1F[..., -1] = 1
    if "features.0" not in state:
        return own_B1F
    parts = [state[name] for name in ("features.0", "features.1") if name in state]
    constant_B11 = (user_BF * user_BF).sum(1)[:, None, None] + 1
    support_BSF = torch.cat([*parts, constant_B11.expand(-1, parts[0].shape[1], -1)], -1)
    return torch.cat([support_BSF, own_B1F], 1)
