"""The inner loop of any network: `torch.func` gives each user weights of their own.

One vectorised program for all users: `vmap` over users of `grad` of the support loss. It needs only
the plain forward pass of a network, and holds a copy of the adapted weights per user and step.

Legend: B users, S support rows, R rows, D item statistics, F embedded features.
"""

import math

import torch
from torch.func import grad, vmap

from recmeta.metalearn.inner_loop.steps import InnerSteps
from recmeta.metalearn.learner import Params, UserState
from recmeta.metalearn.networks.network import EmbeddedItems, Network
from recmeta.metalearn.tensors.batch import Rows

WEIGHT = "weight."
"""Prefix of a user's own weights in their state."""
COLUMNS = 64
"""The numbers that a row takes in a layer, by which the memory of weights is compared with that of
rows."""


class WeightLoop:
    """A user's state is their own copy of the adapted weights."""

    def __init__(self, network: Network, steps: InnerSteps) -> None:
        self.network = network
        self.steps = steps
        shapes = network.decision_shapes
        self.adapted = steps.adapted(shapes)
        num_weights = sum(math.prod(shapes[name]) for name in self.adapted)
        self.least_rows = num_weights // COLUMNS

    def start(self, params: Params, user_BF: torch.Tensor) -> Params:
        """Return, by name, the initial weights (B, ...) that differ between users; here there are
        none."""
        return {}

    def adapt(
        self, params: Params, user_BF: torch.Tensor, items: EmbeddedItems, rows: Rows
    ) -> UserState:
        """Return each user's embedded features and adapted weights."""
        state: UserState = {"user": user_BF}
        weights = self.start(params, user_BF)
        if self.steps.num_steps == 0 or rows.mask_BR.shape[1] == 0:
            return state | {WEIGHT + name: t for name, t in weights.items()}
        shared = {name: p for name, p in params.items() if not name.startswith("embedding.")}
        weights = vmap(self._adapt_one, in_dims=(None, 0, 0, 0, 0, 0, 0))(
            shared,
            weights,
            user_BF,
            items.tables[0],
            rows.statistics_BRD.to(user_BF.dtype),
            rows.value_BR,
            rows.mask_BR,
        )
        return state | {WEIGHT + name: t for name, t in weights.items()}

    def predict(
        self, params: Params, state: UserState, items: EmbeddedItems, rows: Rows
    ) -> torch.Tensor:
        """Return the adapted networks' outputs, (B, R)."""
        user_BF = state["user"]
        own = {name.removeprefix(WEIGHT): t for name, t in state.items() if name.startswith(WEIGHT)}
        embedded, statistics = items.tables[0], rows.statistics_BRD.to(user_BF.dtype)

        def one(
            weights: Params, user_F: torch.Tensor, item_RF: torch.Tensor, past_RD: torch.Tensor
        ) -> torch.Tensor:
            return self.network.forward({**params, **weights}, user_F, item_RF, past_RD)

        if len(embedded) != len(user_BF):  # all users share the same rows
            output_BR: torch.Tensor = vmap(one, in_dims=(0, 0, None, None))(
                own, user_BF, embedded[0], statistics[0]
            )
        else:
            output_BR = vmap(one)(own, user_BF, embedded, statistics)
        return output_BR

    def _adapt_one(
        self,
        params: Params,
        start: Params,
        user_F: torch.Tensor,
        item_SF: torch.Tensor,
        statistics_SD: torch.Tensor,
        value_S: torch.Tensor,
        mask_S: torch.Tensor,
    ) -> Params:
        """Return one user's adapted weights."""

        def loss(weights: Params) -> torch.Tensor:
            output_S = self.network.forward({**params, **weights}, user_F, item_SF, statistics_SD)
            return self.steps.support_loss(output_S[None], value_S[None], mask_S[None])[0]

        weights = {name: start.get(name, params[name]) for name in self.adapted}
        for step in range(self.steps.num_steps):
            gradients = grad(loss)(weights)
            for name, gradient in gradients.items():
                if not self.steps.second_order:
                    gradient = gradient.detach()
                rate = self.steps.rate_of(params, name, step)
                weights[name] = weights[name] - rate * gradient
        return weights
