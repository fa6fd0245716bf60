"""(d) `torch.func`: one vectorised program for a padded batch, with the weights of every user.

It is given each distinct item embedded once, as ours has it.

Legend: B users, R rows (padded), F embedded features.
"""

import torch
from torch.func import grad, vmap

from benchmarks.speed.melu_shape import MeluShape
from benchmarks.speed.meta_train.contestant import (
    IntArray,
    UserData,
    decide,
    embedded,
    layers_of,
    leaves_of,
    user_data,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.tensors.encoding import Features

Side = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class VmapGrad:
    """`vmap` over users of `grad` of the inner loss, differentiated by autograd."""

    def __init__(self, shape: MeluShape) -> None:
        self.shape = shape
        self.data: dict[int, UserData] = {}
        self.batches: dict[bytes, tuple[Features, Side, Side]] = {}

    def prepare(self, users: IntArray) -> None:
        """Keep the users' numbers of items and values."""
        self.data = user_data(self.shape, users)

    def meta_gradient(self, users: IntArray) -> tuple[float, Params]:
        """Return the mean query loss and its gradient."""
        model = self.shape.model
        leaves = leaves_of(model.params)
        some = [self.data[int(user)] for user in users]
        user = {name: torch.cat([u.user[name] for u in some]) for name in some[0].user}
        of_users = embedded(leaves, "user", model.encoder.user_fields, user)[:, None]
        support = _padded([(u.support_item, u.support_value) for u in some])
        query = _padded([(u.query_item, u.query_value) for u in some])
        distinct, _ = torch.unique(torch.cat([s[0].flatten() for s in (support, query)])).sort()
        features = {name: t[distinct] for name, t in model.catalogue.features.items()}
        of_items = embedded(leaves, "item", model.encoder.item_fields, features)

        def inputs(item_BR: torch.Tensor) -> torch.Tensor:
            rows = torch.nn.functional.embedding(torch.searchsorted(distinct, item_BR), of_items)
            return torch.cat([of_users.expand(-1, item_BR.shape[1], -1), rows], 2)

        losses_B = vmap(self._query_loss, in_dims=(None, 0, 0, 0, 0, 0, 0))(
            layers_of(leaves), inputs(support[0]), *support[1:], inputs(query[0]), *query[1:]
        )
        loss = losses_B.mean()
        found = torch.autograd.grad(loss, list(leaves.values()))
        return float(loss.detach()), dict(zip(leaves, found, strict=True))

    def _query_loss(
        self,
        layers: Params,
        support_RF: torch.Tensor,
        support_value_R: torch.Tensor,
        support_mask_R: torch.Tensor,
        query_RF: torch.Tensor,
        query_value_R: torch.Tensor,
        query_mask_R: torch.Tensor,
    ) -> torch.Tensor:
        """Return one user's query loss after the inner steps."""

        def loss(
            weights: Params, rows: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
        ) -> torch.Tensor:
            return ((decide(weights, rows) - value).square() * mask).sum() / mask.sum()

        config = self.shape.learner
        for _ in range(config.num_steps):
            gradients = grad(loss)(layers, support_RF, support_value_R, support_mask_R)
            layers = {
                name: p - config.inner_learning_rate * gradients[name] for name, p in layers.items()
            }
        return loss(layers, query_RF, query_value_R, query_mask_R)


def _padded(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> Side:
    """Return items, values and a mask of real rows, (B, R) each."""
    item_BR, value_BR, mask_BR = (
        torch.nn.utils.rnn.pad_sequence(column, batch_first=True)
        for column in (
            [item for item, _ in rows],
            [value for _, value in rows],
            [torch.ones_like(value) for _, value in rows],
        )
    )
    return item_BR, value_BR, mask_BR
