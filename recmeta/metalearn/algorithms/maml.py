"""MAML on the decision layers (Finn, Abbeel, Levine, ICML 2017), as MeLU uses it.

    θ_u = θ − α ∇_θ L(support_u; φ, θ)             decision layers θ only, num_steps times
    (φ, θ) ← (φ, θ) − β ∇ Σ_u L(query_u; φ, θ_u)   embeddings φ and decision layers θ

(Lee et al., KDD 2019, algorithm 1). The gradient of the second line goes through the first (second
order) unless told otherwise. Rates may be learned, one per step and layer, as in Meta-SGD (Li et
al., 2017) coarsened to layers.
"""

import dataclasses
from typing import Literal

import torch

from recmeta.metalearn.adaptation import LayerState, adapt
from recmeta.metalearn.batch import Rows, Support, TaskBatch
from recmeta.metalearn.encoding import Features
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.networks.preference import PreferenceNetwork
from recmeta.metalearn.objectives import ObjectiveName, loss_of
from recmeta.tasks.task_set import Objective

RATES = "inner_rates"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAMLConfig:
    """The inner loop and the losses."""

    num_steps: int = 3
    """Gradient steps on the support."""
    inner_learning_rate: float = 0.1
    """Rate of an inner step; the starting value where rates are learned."""
    learn_rates: bool = True
    """Whether the rates are meta-learned, one per step and layer."""
    second_order: bool = True
    """Whether the outer gradient goes through the inner steps. False is first-order MAML."""
    adapt_layers: Literal["all", "last"] = "all"
    """Which decision layers adapt: all (MAML), or the last alone (ANIL, Raghu et al., ICLR
    2020)."""
    support_prior: float = 3.0
    """The inner loss is a sum over n support rows, divided by n + this: one row moves a user less
    than twenty do, as in a shrunk mean. 0 is MeLU's plain mean."""
    inner_objective: ObjectiveName | None = None
    """Loss of the inner steps, in units of the model; None: squared for ratings, else bce."""
    outer_objective: ObjectiveName | None = None
    """Loss of the query, in units of the model; None: absolute for ratings, which is what MAE
    measures, else bce."""

    def __post_init__(self) -> None:
        if self.num_steps < 0:
            raise ValueError(f"num_steps is {self.num_steps}; it must not be negative.")
        if self.inner_learning_rate <= 0:
            raise ValueError(
                f"inner_learning_rate is {self.inner_learning_rate}; it must be positive."
            )


class MAML:
    """A preference estimator whose decision layers adapt to each user by gradient steps."""

    def __init__(
        self,
        config: MAMLConfig,
        network: PreferenceNetwork,
        item_features: Features,
        objective: Objective,
    ) -> None:
        self.config = config
        self.network = network
        self.item_features = item_features
        graded = objective == "rating"
        self._inner_loss = loss_of(config.inner_objective or ("squared" if graded else "bce"))
        self._outer_loss = loss_of(config.outer_objective or ("absolute" if graded else "bce"))

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters: the network's, and inner rates (K, L) where they are
        learned."""
        params = self.network.init_params(generator)
        if self.config.learn_rates:
            params[RATES] = self._fixed_rates(params["layer.0.bias"])
        return params

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the exact gradient of the mean query loss, and that loss."""
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        with torch.enable_grad():
            state = self.adapt(leaves, batch.support)
            predicted = self.predict(leaves, state, batch.query).mean_BR
            loss = self._outer_loss(predicted, batch.query.value_BR, batch.query.mask_BR).mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        filled = {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(leaves.items(), gradients, strict=True)
        }
        return filled, {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return each user's embedded features and, per adapted layer, its inputs and gradients."""
        rows = support.rows
        user_BF = self.network.embed_users(params, support.user, len(rows.mask_BR))
        state: UserState = {"user": user_BF}
        if self.config.num_steps == 0 or rows.mask_BR.shape[1] == 0:
            return state
        item_BSF = self.network.embed_items(params, self.item_features, rows)
        num_rows_B = rows.mask_BR.sum(1).to(user_BF)
        confidence_B = num_rows_B / (num_rows_B + self.config.support_prior).clamp(min=1)
        layers = adapt(
            lambda states: self.network.decide(
                params, user_BF, item_BSF, rows.statistics_BRD, states
            ),
            lambda output_BS: (
                self._inner_loss(output_BS, rows.value_BR, rows.mask_BR) * confidence_B
            ),
            params[RATES] if self.config.learn_rates else self._fixed_rates(user_BF),
            self._adapted_layers(),
            second_order=self.config.second_order,
        )
        for index, layer in enumerate(layers):
            if layer is not None:
                state[f"gradients.{index}"] = layer.gradients_BSo
                for number, part in enumerate(layer.inputs):
                    state[f"inputs.{index}.{number}"] = part
        return state

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the adapted network's output for each row."""
        layers = [_layer(state, index) for index in range(self.network.num_layers)]
        item_BRF = self.network.embed_items(params, self.item_features, items)
        output_BR, _, _ = self.network.decide(
            params, state["user"], item_BRF, items.statistics_BRD, layers
        )
        return Prediction(output_BR)

    def _adapted_layers(self) -> list[bool]:
        last = self.network.num_layers - 1
        return [self.config.adapt_layers == "all" or i == last for i in range(last + 1)]

    def _fixed_rates(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self.config.num_steps, self.network.num_layers)
        return like.new_full(shape, self.config.inner_learning_rate)


def _layer(state: UserState, index: int) -> LayerState | None:
    """Return how a layer has adapted, from a user's state; None if it has not."""
    if f"gradients.{index}" not in state:
        return None
    prefix = f"inputs.{index}."
    num_parts = sum(name.startswith(prefix) for name in state)
    parts = tuple(state[f"{prefix}{number}"] for number in range(num_parts))
    return LayerState(parts, state[f"gradients.{index}"])
