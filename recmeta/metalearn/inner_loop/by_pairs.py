"""The inner loop of linear layers, without weights per user: see
`recmeta.metalearn.networks.adapted_layers`.

Legend: B users, S support rows, R rows, F embedded features.
"""

import dataclasses

import torch

from recmeta.metalearn.inner_loop.steps import InnerSteps
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.networks.adapted_layers import Features, LayerState, Parts, adapt
from recmeta.metalearn.networks.network import EmbeddedItems, JoinedRows, LinearNetwork
from recmeta.metalearn.tensors.batch import Rows


class PairLoop:
    """A user's state is the layers' inputs and gradients on the support."""

    least_rows = 0

    def __init__(self, network: LinearNetwork, steps: InnerSteps) -> None:
        self.network = network
        self.steps = steps

    def adapt(
        self, params: Params, user_BF: torch.Tensor, items: EmbeddedItems, rows: Rows
    ) -> UserState:
        """Return each user's embedded features and, per adapted layer, its inputs and gradients."""
        state: UserState = {"user": user_BF}
        if self.steps.num_steps == 0 or rows.mask_BR.shape[1] == 0:
            return state
        support = self.network.join(params, user_BF, items, rows.statistics_BRD)
        features = Features(support.parts, support.parts)
        layers = adapt(
            lambda states: self.network.decide(params, support, features, states),
            lambda output_BS: self.steps.support_slope(output_BS, rows.value_BR, rows.mask_BR),
            self.steps.rates(params),
            self.steps.adapted_layers,
            second_order=self.steps.second_order,
        )
        if any(layer is not None and layer.by_features_BSo is not None for layer in layers):
            state |= {f"features.{n}": part for n, part in enumerate(self._known(support)[1:])}
        for index, layer in enumerate(layers):
            if layer is not None:
                named = vars(layer).items()
                state |= {f"{name}.{index}": t for name, t in named if t is not None}
        return state

    def predict(
        self, params: Params, state: UserState, items: EmbeddedItems, rows: Rows
    ) -> torch.Tensor:
        """Return the adapted networks' outputs, (B, R)."""
        user_BF = state["user"]
        joined = self.network.join(params, user_BF, items, rows.statistics_BRD)
        known: Parts | None = None
        if "features.0" in state:
            others = [state[f"features.{n}"] for n in range(len(joined.parts) - 1)]
            user_B1F = user_BF[:, None]
            known = (user_B1F if self.steps.second_order else user_B1F.detach(), *others)
        layers = [layer_state(state, index) for index in range(self.network.num_layers)]
        features = Features(joined.parts, known)
        return self.network.decide(params, joined, features, layers).output_BR

    def _known(self, support: JoinedRows) -> Parts:
        """Return the support's features as the adapted layers keep them."""
        if self.steps.second_order:
            return support.parts
        return tuple(part.detach() for part in support.parts)


def layer_state(state: UserState, index: int) -> LayerState | None:
    """Return how a layer has adapted, from a user's state, or None if it has not."""
    names = [field.name for field in dataclasses.fields(LayerState)]
    values = {name: state.get(f"{name}.{index}") for name in names}
    return LayerState(**values) if any(v is not None for v in values.values()) else None
