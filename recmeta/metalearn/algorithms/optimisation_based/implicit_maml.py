"""Implicit MAML (Rajeswaran, Finn, Kakade, Levine: Meta-learning with implicit gradients, NeurIPS
2019, equations 3 and 6).

    θ_u = argmin_θ' L(S_u; φ, θ') + λ/2 ‖θ' − θ‖²                     the inner problem
    v_u = (H + λ I)⁻¹ ∇_θ' L(Q_u; φ, θ_u),   H = ∇²_θ' L(S_u; φ, θ_u)  by conjugate gradients
    dL(Q_u)/dθ = λ v_u
    dL(Q_u)/dφ = ∂L(Q_u; φ, θ_u)/∂φ − ∂/∂φ [v_u · ∇_θ' L(S_u; φ, θ_u)]

The outer gradient depends on the solution of the inner problem, not on the path to it: no step is
stored, and any solver will do. Here it is Newton's method with the same conjugate gradients, which
has no learning rate to choose and needs a single step for a squared loss on the last layer.

Legend: B users, R rows, F embedded features.
"""

import dataclasses
from typing import Literal

import torch
from torch.func import vmap

from recmeta.metalearn.inner_loop.objectives import ObjectiveName, loss_of
from recmeta.metalearn.inner_loop.steps import InnerSteps
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.embedding import some_hidden
from recmeta.metalearn.networks.row_features import EmbeddedRows, RowFeatures
from recmeta.metalearn.numerics.sparse_gradients import no_gradient
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch

USER = "user"
"""Key of the embedded profile in a user's state, (B, F); the other tensors are the user's own
weights."""
LEAST = 1e-24
"""A user's system counts as solved when the squared residual of conjugate gradients is below
this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImplicitMAMLConfig(LearnerConfig):
    """The inner problem, and how exactly it and its implicit derivative are solved."""

    proximal_strength: float = 0.3
    """λ, how strongly a user's weights are pulled to the shared weights."""
    num_steps: int = 1
    """The number of Newton steps on the inner problem."""
    num_conjugate_steps: int = 8
    """The number of conjugate gradient steps for each Newton step, and for v."""
    adapt_layers: Literal["all", "last"] = "last"
    """Which decision layers adapt. On the last alone the inner problem is convex."""
    support_prior: float = 3.0
    """The loss of n support rows is multiplied by n / (n + support_prior)."""
    inner_objective: ObjectiveName | None = None
    """The loss of the support, twice differentiable. If not set, it is `squared` for ratings and
    `bce` for implicit feedback."""
    outer_objective: ObjectiveName | None = None
    """The loss of the query. If not set, it is `absolute` for ratings and `bce` for implicit
    feedback."""
    hidden_share: float = 0.0
    """The share of batches whose items are read without their ids, as new items are (DropoutNet:
    Volkovs, Yu, Poutanen, NeurIPS 2017)."""

    def __post_init__(self) -> None:
        if self.proximal_strength <= 0:
            raise ValueError(f"proximal_strength is {self.proximal_strength}; it must be positive.")
        if self.num_steps < 0 or self.num_conjugate_steps < 1:
            raise ValueError(
                f"num_steps {self.num_steps} must not be negative, num_conjugate_steps "
                f"{self.num_conjugate_steps} must be at least 1."
            )
        if self.inner_objective == "absolute":
            raise ValueError("inner_objective 'absolute' has no curvature: take 'squared'.")

    def build(self, setting: Setting) -> "ImplicitMAML":
        """Return the learner with these hyperparameters."""
        return ImplicitMAML(self, setting)


class ImplicitMAML:
    """A preference estimator with weights per user that solve a regularised problem."""

    def __init__(self, config: ImplicitMAMLConfig, setting: Setting) -> None:
        self.config = config
        self.network = setting.network
        self.features = RowFeatures(self.network, setting.item_features)
        graded = setting.is_graded
        last = self.network.num_layers - 1
        self.steps = InnerSteps(
            num_steps=config.num_steps,
            adapted_layers=tuple(
                config.adapt_layers == "all" or layer == last for layer in range(last + 1)
            ),
            learning_rate=0.0,
            second_order=False,
            support_prior=config.support_prior,
            objective=config.inner_objective or ("squared" if graded else "bce"),
        )
        self.adapted = self.steps.adapted(self.network.decision_shapes)
        self._outer_loss = loss_of(config.outer_objective or ("absolute" if graded else "bce"))

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters of the network."""
        return self.network.init_params(generator)

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the implicit gradient of the mean query loss, and that loss.

        Args:
            generator: draws whether items are hidden.
        """
        seen = some_hidden(self.features.item_features, self.config.hidden_share, generator)
        leaves = {n: p.detach().requires_grad_() for n, p in params.items()}
        with torch.enable_grad():
            user_BF = self.features.users(leaves, batch.support.user, len(batch))
            support = self.features.embedded(leaves, batch.support.rows, seen)
            query = self.features.embedded(leaves, batch.query, seen)
        fixed = user_BF.detach(), _detached(support)
        own = {n: p.requires_grad_() for n, p in self._solve(params, *fixed).items()}
        with torch.enable_grad():
            output_BR = self._outputs(leaves, own, user_BF, query)
            loss_B = self._outer_loss(output_BR, query.value_BR, query.mask_BR)
            loss = loss_B.mean()
            # The sum, not the mean: where a user's conjugate gradients end must not depend on the
            # number of users.
            pulls = torch.autograd.grad(loss_B.sum(), list(own.values()), retain_graph=True)
            solved = self._solved(params, own, dict(zip(own, pulls, strict=True)), *fixed)
            v = {name: t / len(batch) for name, t in solved.items()}
            at_end = self._support_loss(leaves, own, user_BF, support).sum()
            slopes = torch.autograd.grad(at_end, list(own.values()), create_graph=True)
            indirect = sum((slope * v[name]).sum() for name, slope in zip(own, slopes, strict=True))
            found = torch.autograd.grad(loss - indirect, list(leaves.values()), allow_unused=True)
        gradients = {}
        for (name, p), gradient in zip(leaves.items(), found, strict=True):
            if name in v:
                gradients[name] = self.config.proximal_strength * v[name].sum(0)
            else:
                gradients[name] = no_gradient(p) if gradient is None else gradient
        return gradients, {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return each user's embedded features, and the weights that solve their inner problem."""
        user_BF = self.features.users(params, support.user, len(support.rows.mask_BR))
        embedded = self.features.embedded(params, support.rows)
        return {USER: user_BF, **self._solve(params, user_BF, embedded)}

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items embedded."""
        return self.features.embedded(params, items)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the outputs of each user's own network."""
        own = {name: state[name] for name in self.adapted}
        embedded = self.features.embedded(params, items)
        return Prediction(self._outputs(params, own, state[USER], embedded))

    def _solve(self, params: Params, user_BF: torch.Tensor, support: EmbeddedRows) -> Params:
        """Return the users' weights after the steps on the inner problem, (B, ...) each."""
        fixed = {name: p.detach() for name, p in params.items()}
        start = {n: fixed[n].expand(len(user_BF), *fixed[n].shape) for n in self.adapted}
        own = start
        for _ in range(self.config.num_steps):
            own = {name: p.detach().requires_grad_() for name, p in own.items()}
            with torch.enable_grad():
                loss = self._support_loss(fixed, own, user_BF, support).sum()
            slopes = torch.autograd.grad(loss, list(own.values()))
            uphill = {
                name: slope + self.config.proximal_strength * (p.detach() - start[name])
                for (name, p), slope in zip(own.items(), slopes, strict=True)
            }
            change = self._solved(params, own, uphill, user_BF, support)
            own = {name: p - change[name] for name, p in own.items()}
        return {name: p.detach() for name, p in own.items()}

    def _solved(
        self,
        params: Params,
        own: Params,
        right: Params,
        user_BF: torch.Tensor,
        support: EmbeddedRows,
    ) -> Params:
        """Return each user's solution of (H + λ I) v = right, (B, ...) each, by conjugate gradients
        on all users at once. Where a user's curvature is not positive, the solution is that of the
        last step before."""
        fixed = {name: p.detach() for name, p in params.items()}
        with torch.enable_grad():
            loss = self._support_loss(fixed, own, user_BF, support).sum()
            slopes = torch.autograd.grad(loss, list(own.values()), create_graph=True)

        def system(direction: Params) -> Params:
            # Users do not share weights, so that the Hessian of the sum is block-diagonal, one
            # block per user.
            with torch.enable_grad():
                product = torch.stack(
                    [(slope * direction[n]).sum() for n, slope in zip(own, slopes, strict=True)]
                ).sum()
            images = torch.autograd.grad(
                product, list(own.values()), retain_graph=True, materialize_grads=True
            )
            return {
                name: image + self.config.proximal_strength * direction[name]
                for name, image in zip(own, images, strict=True)
            }

        v = {name: torch.zeros_like(t) for name, t in right.items()}
        residual = direction = right
        size_B = _dot(residual, residual)
        for _ in range(self.config.num_conjugate_steps):
            image = system(direction)
            curvature_B = _dot(direction, image)
            goes_on_B = (size_B > LEAST) & (curvature_B > LEAST)
            step_B = torch.where(goes_on_B, size_B / curvature_B.clamp(min=LEAST), 0.0)
            v = {name: t + _by_user(step_B, direction[name]) for name, t in v.items()}
            residual = {n: t - _by_user(step_B, image[n]) for n, t in residual.items()}
            next_B = _dot(residual, residual)
            again_B = torch.where(size_B > LEAST, next_B / size_B.clamp(min=LEAST), 0.0)
            direction = {n: t + _by_user(again_B, direction[n]) for n, t in residual.items()}
            size_B = next_B
        return v

    def _support_loss(
        self, params: Params, own: Params, user_BF: torch.Tensor, support: EmbeddedRows
    ) -> torch.Tensor:
        """Return (B,) the support's loss of each user's own network."""
        output_BS = self._outputs(params, own, user_BF, support)
        return self.steps.support_loss(output_BS, support.value_BR, support.mask_BR)

    def _outputs(
        self, params: Params, own: Params, user_BF: torch.Tensor, rows: EmbeddedRows
    ) -> torch.Tensor:
        """Return the outputs (B, R) of each user's own network; rows may have 1 for B."""

        def one(
            weights: Params, user_F: torch.Tensor, item_RF: torch.Tensor, past_RD: torch.Tensor
        ) -> torch.Tensor:
            return self.network.forward(params | weights, user_F, item_RF, past_RD)

        past_BRD = rows.statistics_BRD.to(user_BF.dtype)
        shape = (len(user_BF), *rows.embedded_BRF.shape[1:])
        output_BR: torch.Tensor = vmap(one)(
            own, user_BF, rows.embedded_BRF.expand(shape), past_BRD.expand(*shape[:2], -1)
        )
        return output_BR


def _detached(rows: EmbeddedRows) -> EmbeddedRows:
    return dataclasses.replace(rows, embedded_BRF=rows.embedded_BRF.detach())


def _dot(left: Params, right: Params) -> torch.Tensor:
    """Return (B,) the users' inner products over all weights."""
    parts = [(left[name] * right[name]).flatten(1).sum(1) for name in left]
    return torch.stack(parts).sum(0)


def _by_user(number_B: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return (B, ...) with each user's part multiplied by their number."""
    return number_B.view(-1, *[1] * (tensor.ndim - 1)) * tensor


LEARNER = ImplicitMAMLConfig
