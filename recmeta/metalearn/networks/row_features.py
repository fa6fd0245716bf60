"""The inputs of a preference estimator's last layer, as features for shallow learners.

Legend: B users, R rows, H inputs of the last layer, F embedded features.
"""

import dataclasses

import torch
import torch.nn.functional as F

from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.embedding import EmbeddingNetwork, distinct, gather
from recmeta.metalearn.tensors.batch import Rows
from recmeta.metalearn.tensors.encoding import Features


@dataclasses.dataclass(frozen=True)
class EmbeddedRows(Rows):
    """Rows whose items are embedded already."""

    embedded_BRF: torch.Tensor


class RowFeatures:
    """The features as pure functions of the parameters. The object holds only shapes and the
    catalogue."""

    def __init__(self, network: EmbeddingNetwork, item_features: Features) -> None:
        self.network = network
        self.item_features = item_features
        last = network.num_layers - 1
        self.weight_name, self.bias_name = f"layer.{last}.weight", f"layer.{last}.bias"
        self.width = network.decision_shapes[self.weight_name][1]
        """H"""

    def users(self, params: Params, user: Features, num_users: int) -> torch.Tensor:
        """Return the embedded features of users, (B, F)."""
        return self.network.embed_users(params, user, num_users)

    def embedded(
        self, params: Params, rows: Rows, features: Features | None = None
    ) -> EmbeddedRows:
        """Return rows with their items embedded, each distinct item once. Rows that are embedded
        already are returned unchanged.

        Args:
            features: the features of the catalogue to read, or None for all.
        """
        if isinstance(rows, EmbeddedRows):
            return rows
        features = self.item_features if features is None else features
        item_U, [place_BR] = distinct([rows.item_BR], features)
        table_UF = self.network.embedded_items(params, features, item_U)
        return EmbeddedRows(**vars(rows), embedded_BRF=gather(table_UF, place_BR))

    def of(self, params: Params, user_BF: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Return the last layer's inputs, (B, R, H). Rows may have 1 for B."""
        known = self.embedded(params, rows)
        return self.network.last_inputs(params, user_BF, known.embedded_BRF, rows.statistics_BRD)

    def output(self, params: Params, x_BRH: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Return the network's output (B, R) with the shared last layer."""
        z_BR1 = F.linear(x_BRH, params[self.weight_name], params[self.bias_name])
        return self.network.started(z_BR1[..., 0], rows.statistics_BRD)
