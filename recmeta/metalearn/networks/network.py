"""The interface of a network: a shared part that embeds, and a part that adapts to each user.

Every network computes its outputs for one user's rows in plain operations, and adapting it needs
nothing more. A network whose adapted part is a chain of linear layers may offer the faster form,
too.

Legend: B users, R rows, U distinct items of a batch, F embedded features, D item statistics.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch

from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.adapted_layers import Features, LayerState, Parts, Pass
from recmeta.metalearn.tensors.encoding import Features as Encoded


@dataclasses.dataclass(frozen=True)
class EmbeddedItems:
    """Items as the decision layers read them: (U, ·), or gathered to rows (B, R, ·)."""

    tables: list[torch.Tensor]
    """The items' features, concatenated; in a linear network also their products with the weights
    of the layers that read them."""


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """The features of B users' R rows."""

    parts: Parts
    """The features of the user, of the items, and of the items' past."""
    products: list[torch.Tensor]
    """(B, R, o) outputs of the first layer, and the features' share of the last's where it is wide,
    before adaptation."""
    statistics_BRD: torch.Tensor


class Network(Protocol):
    """A network as pure functions of its parameters.

    Parameters named `embedding.…` are shared by all users. Those named `layer.N.…` adapt at the
    rates of layer N.
    """

    @property
    def num_layers(self) -> int:
        """The number of decision layers; the last one computes the output."""
        ...

    @property
    def decision_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that adapt, by name."""
        ...

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters."""
        ...

    def embed_users(self, params: Params, user: Encoded, num_users: int) -> torch.Tensor:
        """Return the embedded features of users, (B, F)."""
        ...

    def embed_items(self, params: Params, features: Encoded, item_U: torch.Tensor) -> EmbeddedItems:
        """Return items with the work that no user changes done."""
        ...

    def forward(
        self,
        params: Params,
        user_F: torch.Tensor,
        item_RF: torch.Tensor,
        statistics_RD: torch.Tensor,
    ) -> torch.Tensor:
        """Return the outputs (R,) of one user's rows, in operations that `torch.func` can
        transform. Only parameters named `layer.…` are read."""
        ...


@runtime_checkable
class LinearNetwork(Network, Protocol):
    """A network whose adapted part is a chain of linear layers with activations between them."""

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """The numbers of features that the layers read: of the user, of the item, of the item's
        past."""
        ...

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """The layers that read features, the first among them."""
        ...

    def feature_weights(self, params: Params, layer: int) -> Sequence[torch.Tensor]:
        """Return a layer's weights of the user's features, of the item's and of the statistics."""
        ...

    def started(self, output: torch.Tensor, statistics: torch.Tensor) -> torch.Tensor:
        """Return outputs (...) plus the values that they start from, given statistics (..., D)."""
        ...

    def join(
        self,
        params: Params,
        user_BF: torch.Tensor,
        item: EmbeddedItems,
        statistics_BRD: torch.Tensor,
    ) -> JoinedRows:
        """Return the features of rows, and the layers' products with them before adaptation."""
        ...

    def decide(
        self,
        params: Params,
        rows: JoinedRows,
        features: Features,
        states: Sequence[LayerState | None],
    ) -> Pass:
        """Run the decision layers as each user has adapted them."""
        ...


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a parameter belongs to, or None if it is shared."""
    kind, *rest = name.split(".")
    return int(rest[0]) if kind == "layer" else None
