"""(a) MeLU's reference implementation (Lee et al., KDD 2019): a user after the other, an
interaction as dense multi-hot integers.

As there, the inner gradient is asked for all parameters, embeddings too, of which only the decision
layers' are used. Other than there, where the adapted weights enter the network through
`load_state_dict`, which cuts the graph, the outer gradient is of second order.

Legend: n rows of one user, C columns.
"""

import torch
import torch.nn.functional as F

from benchmarks.speed.melu_shape import MeluShape
from benchmarks.speed.meta_train.contestant import (
    IntArray,
    decide,
    layers_of,
    leaves_of,
    user_data,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.tensors.encoding import Features, Field

Sample = tuple[torch.Tensor, torch.Tensor]


class DenseLoop:
    """MeLU's own loop."""

    def __init__(self, shape: MeluShape) -> None:
        self.shape = shape
        encoder = shape.model.encoder
        self.fields = [("item", f) for f in encoder.item_fields]
        self.fields += [("user", f) for f in encoder.user_fields]
        self.data: dict[int, tuple[Sample, Sample]] = {}

    def prepare(self, users: IntArray) -> None:
        """Build the multi-hot rows, as the reference keeps them in its files."""
        features = self.shape.model.catalogue.features
        for number, user in user_data(self.shape, users).items():

            def dense(item: torch.Tensor, profile: Features = user.user) -> torch.Tensor:
                columns = []
                for side, field in self.fields:
                    if side == "user":
                        codes = profile[field.name].expand(len(item))
                    else:
                        codes = features[field.name][item]
                    columns.append(_multi_hot(field, codes))
                return torch.cat(columns, 1)

            self.data[number] = (
                (dense(user.support_item), user.support_value),
                (dense(user.query_item), user.query_value),
            )

    def meta_gradient(self, users: IntArray) -> tuple[float, Params]:
        """Return the mean query loss and its gradient."""
        leaves = leaves_of(self.shape.model.params)
        config = self.shape.learner
        losses = []
        for user in users:
            (support_nC, support_value), (query_nC, query_value) = self.data[int(user)]
            weights = leaves
            for _ in range(config.num_steps):
                loss = F.mse_loss(self._forward(weights, support_nC), support_value)
                found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
                gradients = dict(zip(weights, found, strict=True))
                adapted = {
                    name: p - config.inner_learning_rate * gradients[name]
                    for name, p in layers_of(weights).items()
                }
                weights = {**weights, **adapted}
            losses.append(F.mse_loss(self._forward(weights, query_nC), query_value))
        total = torch.stack(losses).mean()
        outer = torch.autograd.grad(total, list(leaves.values()))
        return float(total.detach()), dict(zip(leaves, outer, strict=True))

    def _forward(self, weights: Params, rows_nC: torch.Tensor) -> torch.Tensor:
        parts: dict[str, list[torch.Tensor]] = {"user": [], "item": []}
        start = 0
        for side, field in self.fields:
            table = weights[f"embedding.{side}.{field.name}"]
            if field.kind == "multi":
                hot = rows_nC[:, start : start + field.num_codes]
                count = hot.float().sum(1, keepdim=True).clamp(min=1)
                mean = F.linear(hot.float(), table.T) / count  # converted twice, as there
                parts[side].append(mean)
                start += field.num_codes
            else:
                parts[side].append(F.embedding(rows_nC[:, start], table))
                start += 1
        return decide(weights, torch.cat([*parts["user"], *parts["item"]], 1))


def _multi_hot(field: Field, codes: torch.Tensor) -> torch.Tensor:
    """Return (n, 1) codes, or (n, codes) counts of a multi-valued field, without code 0."""
    if field.kind != "multi":
        return codes[:, None]
    hot = codes.new_zeros((len(codes), field.num_codes))
    hot.scatter_add_(1, codes, torch.ones_like(codes))
    hot[:, 0] = 0
    return hot
