"""MAML as its authors write it down: one user after the other, each with updated copies of the
weights. Slow, obvious, and sharing no code with recmeta beyond the shapes of its inputs.

Legend: B users, R rows.
"""

import dataclasses

import torch
from torch import Tensor

from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.tensors.batch import Rows, TaskBatch
from recmeta.metalearn.tensors.encoding import Features, Field


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Everything about a network that the loop must know."""

    config: MAMLConfig
    inner: str
    outer: str
    user_fields: tuple[Field, ...]
    item_fields: tuple[Field, ...]
    item_features: Features
    num_layers: int
    wide: bool
    starts_from_item_mean: bool

    def meta_gradient(
        self, params: dict[str, Tensor], batch: TaskBatch
    ) -> tuple[dict[str, Tensor], float]:
        """Return the gradient of the users' mean query loss, and that loss."""
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        losses = [self.query_loss(leaves, batch, b) for b in range(len(batch))]
        loss = torch.stack(losses).mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(leaves.items(), gradients, strict=True)
        }, loss.item()

    def query_loss(self, leaves: dict[str, Tensor], batch: TaskBatch, b: int) -> Tensor:
        weights = self.adapted_weights(leaves, batch, b)
        mask = batch.query.mask_BR[b]
        outputs = self.forward(leaves, weights, batch, batch.query, b)
        return loss(self.outer, outputs, batch.query.value_BR[b][mask].to(outputs.dtype))

    def first_weights(
        self, leaves: dict[str, Tensor], batch: TaskBatch, b: int
    ) -> dict[str, Tensor]:
        """Return the decision layers' weights before the user's inner steps."""
        return {name: p for name, p in leaves.items() if name.startswith("layer.")}

    def adapted_weights(
        self, leaves: dict[str, Tensor], batch: TaskBatch, b: int
    ) -> dict[str, Tensor]:
        """Return the decision layers' weights after the user's inner steps."""
        weights = self.first_weights(leaves, batch, b)
        mask = batch.support.rows.mask_BR[b]
        num_rows = int(mask.sum())
        if num_rows == 0:
            return weights
        last = self.num_layers - 1
        adapts = [
            name for name in weights if self.config.adapt_layers == "all" or f".{last}." in name
        ]
        for step in range(self.config.num_steps):
            outputs = self.forward(leaves, weights, batch, batch.support.rows, b)
            values = batch.support.rows.value_BR[b][mask].to(outputs.dtype)
            inner = loss(self.inner, outputs, values)
            inner = inner * num_rows / (num_rows + self.config.support_prior)
            gradients = torch.autograd.grad(inner, [weights[n] for n in adapts], create_graph=True)
            for name, gradient in zip(adapts, gradients, strict=True):
                if not self.config.second_order:
                    gradient = gradient.detach()
                layer = int(name.split(".")[1])
                rate: Tensor | float = self.config.inner_learning_rate
                if self.config.learn_rates and self.config.rates_per == "parameter":
                    rate = leaves[f"inner_rate.{name}"]
                elif self.config.learn_rates:
                    rate = leaves["inner_rates"][step, layer]
                weights = {**weights, name: weights[name] - rate * gradient}
        return weights

    def forward(
        self,
        leaves: dict[str, Tensor],
        weights: dict[str, Tensor],
        batch: TaskBatch,
        rows: Rows,
        b: int,
    ) -> Tensor:
        """Return the outputs of a user's real rows, one after the other."""
        outputs = []
        for r in range(rows.mask_BR.shape[1]):
            if not rows.mask_BR[b, r]:
                continue
            statistics = rows.statistics_BRD[b, r].double()
            x = torch.cat(
                [
                    *(
                        self.embed(leaves, "user", f, batch.support.user, b)
                        for f in self.user_fields
                    ),
                    *(
                        self.embed(leaves, "item", f, self.item_features, int(rows.item_BR[b, r]))
                        for f in self.item_fields
                    ),
                    statistics,
                ]
            )
            features = x
            for layer in range(self.num_layers):
                if self.wide and 0 < layer == self.num_layers - 1:
                    x = torch.cat([x, features])
                x = weights[f"layer.{layer}.weight"] @ x + weights[f"layer.{layer}.bias"]
                if layer < self.num_layers - 1:
                    x = x.clamp(min=0)
            outputs.append(x[0] + (statistics[0] if self.starts_from_item_mean else 0))
        return torch.stack(outputs)

    def embed(
        self, leaves: dict[str, Tensor], side: str, field: Field, features: Features, row: int
    ) -> Tensor:
        value = features[field.name][row]
        if field.kind == "numeric":
            return value.double()[None]
        table = leaves[f"embedding.{side}.{field.name}"]
        if field.kind == "categorical":
            return table[int(value)]
        codes = [int(code) for code in value if code > 0]
        if not codes:
            return torch.zeros_like(table[0])
        return torch.stack([table[code] for code in codes]).mean(0)


def loss(name: str, outputs: Tensor, values: Tensor) -> Tensor:
    """Return one user's loss, off the textbook."""
    if name == "squared":
        return ((outputs - values) ** 2).mean()
    if name == "absolute":
        return (outputs - values).abs().mean()
    if name == "bce":
        chance = 1 / (1 + torch.exp(-outputs))
        return -(values * torch.log(chance) + (1 - values) * torch.log(1 - chance)).mean()
    shares = torch.exp(outputs) / torch.exp(outputs).sum()
    if values.sum() == 0:
        return shares.sum() * 0
    return -(values * torch.log(shares)).sum() / values.sum()
