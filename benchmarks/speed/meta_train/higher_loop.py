"""(b) `higher` (Grefenstette et al., 2019): a user after the other through a patched module."""

import higher
import torch
import torch.nn.functional as F

from benchmarks.speed.melu_shape import MeluShape
from benchmarks.speed.meta_train.contestant import (
    DecisionLayers,
    IntArray,
    UserData,
    filled,
    inputs_of,
    leaves_of,
    user_data,
)
from recmeta.metalearn.learner import Params


class HigherLoop:
    """The library's documented inner loop."""

    def __init__(self, shape: MeluShape) -> None:
        self.shape = shape
        self.data: dict[int, UserData] = {}

    def prepare(self, users: IntArray) -> None:
        """Keep the users' numbers of items and values."""
        self.data = user_data(self.shape, users)

    def meta_gradient(self, users: IntArray) -> tuple[float, Params]:
        """Return the mean query loss and its gradient."""
        leaves = leaves_of(self.shape.model.params)
        config = self.shape.learner
        network = DecisionLayers(leaves)
        optimiser = torch.optim.SGD(network.parameters(), lr=config.inner_learning_rate)
        total = 0.0
        for number in users:
            user = self.data[int(number)]
            support = inputs_of(leaves, self.shape, user.user, user.support_item)
            query = inputs_of(leaves, self.shape, user.user, user.query_item)
            with higher.innerloop_ctx(network, optimiser, copy_initial_weights=False) as (
                adapted,
                differentiable,
            ):
                for _ in range(config.num_steps):
                    differentiable.step(F.mse_loss(adapted(support), user.support_value))
                loss = F.mse_loss(adapted(query), user.query_value) / len(users)
                torch.autograd.backward(loss)
            total += float(loss.detach())
        tables = {name: p.grad for name, p in leaves.items() if p.grad is not None}
        return total, filled(leaves, {**tables, **network.gradients()})
