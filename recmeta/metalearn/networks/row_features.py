"""Rows as the last layer of a preference estimator sees them: what a shallow learner works on.

Legend: B users, R rows, H inputs of the last layer, F embedded features.
"""

import dataclasses

import torch
import torch.nn.functional as F

from recmeta.metalearn.batch import Rows, TaskBatch
from recmeta.metalearn.encoding import Features
from recmeta.metalearn.learner import MetaLearner, Metrics, Params
from recmeta.metalearn.networks.embedding import EmbeddingNetwork, distinct, gather
from recmeta.metalearn.objectives import Loss
from recmeta.metalearn.row_adamw import no_gradient


@dataclasses.dataclass(frozen=True)
class EmbeddedRows(Rows):
    """Rows whose items are embedded already."""

    embedded_BRF: torch.Tensor


class RowFeatures:
    """Pure functions of the parameters; holds only shapes and the catalogue."""

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
        """Return rows with their items embedded, each distinct one once; or as they are.

        Args:
            features: what is to be read of the catalogue; None: all.
        """
        if isinstance(rows, EmbeddedRows):
            return rows
        features = self.item_features if features is None else features
        item_U, [place_BR] = distinct([rows.item_BR], features)
        table_UF = self.network.embedded_items(params, features, item_U)
        return EmbeddedRows(**vars(rows), embedded_BRF=gather(table_UF, place_BR))

    def of(self, params: Params, user_BF: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Return what the last layer sees, (B, R, H). Rows may have 1 for B."""
        known = self.embedded(params, rows)
        return self.network.last_inputs(params, user_BF, known.embedded_BRF, rows.statistics_BRD)

    def output(self, params: Params, x_BRH: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Return the network's output (B, R), which is nobody's own."""
        z_BR1 = F.linear(x_BRH, params[self.weight_name], params[self.bias_name])
        return self.network.started(z_BR1[..., 0], rows.statistics_BRD)


def query_gradient(
    learner: MetaLearner, params: Params, batch: TaskBatch, loss: Loss
) -> tuple[Params, Metrics]:
    """Return the gradient of the mean query loss through `adapt` and `predict`, and that loss: the
    meta-gradient of a learner which is differentiable as it is."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad():
        state = learner.adapt(leaves, batch.support)
        output_BR = learner.predict(leaves, state, batch.query).mean_BR
        total = loss(output_BR, batch.query.value_BR, batch.query.mask_BR).mean()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {
        name: no_gradient(p) if gradient is None else gradient
        for (name, p), gradient in zip(leaves.items(), found, strict=True)
    }
    return gradients, {"loss": float(total.detach())}
