"""Reptile: move the initial weights towards where each user's steps lead (Nichol, Achiam, Schulman:
On first-order meta-learning algorithms, 2018, algorithm 2).

    θ_u = θ − α Σ_k g_k,   g_k = ∇ L(rows of minibatch k; φ, θ after k steps)
    θ ← θ − β mean_u (θ − θ_u) / (α K)
    φ ← φ − β mean_u Σ_k ∇_φ L(rows of minibatch k; φ, θ after k steps) / K

There is no split into support and query, and no second derivative: since the minibatches differ,
the mean of the differences already contains the inner products of their gradients (section 5).
Embeddings φ are shared and do not move while a user is learned; their gradients are those at the
same steps. A new user is learned by full-batch steps on the support, as in MAML.

Legend: B users, R rows (support and query), F embedded features.
"""

import dataclasses
from typing import Literal

import torch
from torch.func import vmap

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.inner_loop.objectives import ObjectiveName
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.embedding import some_hidden
from recmeta.metalearn.networks.row_features import EmbeddedRows, RowFeatures
from recmeta.metalearn.numerics.named_draws import uniform_by
from recmeta.metalearn.numerics.sparse_gradients import no_gradient
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch, joined


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReptileConfig(LearnerConfig):
    """The steps of meta-training and those on a new user's support."""

    num_steps: int = 5
    """K, the number of meta-training steps per user. With a single step Reptile is joint
    training."""
    minibatch_share: float = 0.5
    """The share of a user's rows that each of those steps sees, drawn for each step."""
    num_support_steps: int = 5
    """The number of steps on a new user's support."""
    inner_learning_rate: float = 0.05
    """α, the rate of all steps."""
    adapt_layers: Literal["all", "last"] = "all"
    """Which decision layers adapt."""
    support_prior: float = 3.0
    """The loss of n rows is multiplied by n / (n + support_prior), so that few rows move a user
    less."""
    inner_objective: ObjectiveName | None = None
    """The loss of all steps, in units of the model. If not set, it is `squared` for ratings and
    `bce` for implicit feedback."""

    hidden_share: float = 0.0
    """The share of batches whose items are read without their ids, as new items are (DropoutNet:
    Volkovs, Yu, Poutanen, NeurIPS 2017)."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; it must be at least 1.")
        if not 0 < self.minibatch_share <= 1:
            raise ValueError(
                f"minibatch_share is {self.minibatch_share}; it must be above 0 and at most 1."
            )
        self.on_support()

    def on_support(self) -> MAMLConfig:
        """Return the inner loop for a new user, as MAML's hyperparameters."""
        return MAMLConfig(
            num_steps=self.num_support_steps,
            inner_learning_rate=self.inner_learning_rate,
            learn_rates=False,
            second_order=False,
            adapt_layers=self.adapt_layers,
            support_prior=self.support_prior,
            inner_objective=self.inner_objective,
            hidden_share=self.hidden_share,
        )

    def build(self, setting: Setting) -> "Reptile":
        """Return the learner with these hyperparameters."""
        return Reptile(self, setting)


class Reptile:
    """A preference estimator whose initial weights move towards its users' weights."""

    def __init__(self, config: ReptileConfig, setting: Setting) -> None:
        self.config = config
        self.network = setting.network
        self.maml = MAML(
            config.on_support(), self.network, setting.item_features, setting.objective
        )
        self.features = RowFeatures(self.network, setting.item_features)

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters of the network."""
        return self.maml.init_params(generator)

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return Reptile's pseudo-gradient, and the mean loss at its steps.

        Args:
            generator: draws the minibatches, and whether items are hidden.
        """
        num_users, num_steps = len(batch), self.config.num_steps
        rows = joined(batch.support.rows, batch.query)
        seen = some_hidden(self.features.item_features, self.config.hidden_share, generator)
        own = {n: params[n].detach().expand(num_users, *params[n].shape) for n in self.adapted}
        shared = {n: p.detach().requires_grad_() for n, p in params.items() if n not in own}
        sums: dict[str, torch.Tensor] = {}
        total = 0.0
        with torch.enable_grad():
            # The user's own weights are not read here, but the network requires all parameters.
            user_BF = self.features.users(params | shared, batch.support.user, num_users)
            embedded = self.features.embedded(params | shared, rows, seen)
        number_BR = (rows.mask_BR.cumsum(1) - 1).clamp(min=0)  # whatever padding lies between
        for _ in range(num_steps):
            draw_BR = uniform_by(batch.name_B, rows.mask_BR.shape[1], generator)
            drawn_BR = draw_BR.gather(1, number_BR) < self.config.minibatch_share
            own = {name: p.detach().requires_grad_() for name, p in own.items()}
            with torch.enable_grad():
                output_BR = self._outputs(own, shared, user_BF, embedded)
                loss_B = self.maml.steps.support_loss(
                    output_BR, rows.value_BR, rows.mask_BR & drawn_BR
                )
            wanted = own | shared
            found = torch.autograd.grad(
                loss_B.sum(), list(wanted.values()), retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(wanted, found, strict=True):
                if gradient is None:
                    continue
                if name in own:
                    own[name] = own[name] - self.config.inner_learning_rate * gradient
                    gradient = gradient.sum(0)
                sums[name] = sums[name] + gradient if name in sums else gradient
            total += float(loss_B.detach().mean())
        return {
            name: sums[name] / (num_users * num_steps) if name in sums else no_gradient(p)
            for name, p in params.items()
        }, {"loss": total / num_steps}

    @property
    def adapted(self) -> tuple[str, ...]:
        """Names of the parameters of which each user has a copy."""
        return self.maml.steps.adapted(self.network.decision_shapes)

    def _outputs(
        self, own: Params, shared: Params, user_BF: torch.Tensor, rows: EmbeddedRows
    ) -> torch.Tensor:
        """Return the outputs (B, R) of each user's own network."""

        def one(
            weights: Params, user_F: torch.Tensor, item_RF: torch.Tensor, past_RD: torch.Tensor
        ) -> torch.Tensor:
            return self.network.forward(shared | weights, user_F, item_RF, past_RD)

        output_BR: torch.Tensor = vmap(one)(
            own, user_BF, rows.embedded_BRF, rows.statistics_BRD.to(user_BF.dtype)
        )
        return output_BR

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return each user's embedded features, and the result of the steps on the support."""
        return self.maml.adapt(params, support)

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items embedded."""
        return self.maml.prepare(params, items)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the adapted network's output for each row."""
        return self.maml.predict(params, state, items)


LEARNER = ReptileConfig
