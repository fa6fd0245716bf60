"""Federated meta-learning: clients send updates, never interactions (FedMeta: Chen, Luo, Dong, Li,
He, 2018; FedAvg: McMahan et al., AISTATS 2017).

    client u:  Δ_u = (θ − θ_u) / (K·α),   θ_u: θ after K steps of rate α down its own task's loss
    server:    θ ← θ − β · (Σ_u clip(Δ_u, C) + N(0, (z·C)²)) / B

A client's loss is that of any other learner: of its query after adapting to its support. With K = 1
the update is the meta-gradient, as in FedMeta, and without clipping the server's is, exactly, that
of the learner trained centrally; with K > 1 it is FedAvg's. The server's step is the trainer's
optimiser (Reddi et al., ICLR 2021). Clipped and noised, the updates are private, user by user
(McMahan et al., ICLR 2018): see `recmeta.metalearn.outer_loop.privacy`.

Only clients whose updates differ from their gradients are called one by one, as in a federation;
all others are computed as one batch.

Legend: B clients of a round.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch

from recmeta.metalearn.learner import MetaLearner, Metrics, Params, Prediction, UserState, derived
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.numerics.named_draws import generators_by
from recmeta.metalearn.outer_loop.privacy import epsilon_of
from recmeta.metalearn.registry import config_class, with_learner
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedConfig(LearnerConfig):
    """What clients learn, and what they send."""

    algorithm: str = "maml"
    """The learner that every client trains: a name in `recmeta.metalearn.registry.LEARNERS`."""
    learner: LearnerConfig = LearnerConfig()
    """The hyperparameters of that algorithm; a plain `LearnerConfig` stands for its defaults."""
    local_steps: int = 1
    """K, the number of steps of a client in a round."""
    local_learning_rate: float = 0.01
    """α, the learning rate of these steps. It has no effect if there is one step."""
    clip_norm: float | None = None
    """C, the greatest length of a client's update, as a Euclidean norm over all parameters. If not
    set, updates are not clipped."""
    noise_multiplier: float = 0.0
    """z, the standard deviation of the noise on a round's sum, in units of C; with 0 there is no
    noise."""
    delta: float = 1e-5
    """The δ for which ε is stated; it should be below one over the number of clients."""

    def __post_init__(self) -> None:
        if self.algorithm == "federated":
            raise ValueError("algorithm is 'federated'; clients must learn something else.")
        if type(self.learner) is LearnerConfig:
            object.__setattr__(self, "learner", config_class(self.algorithm)())
        if self.local_steps < 1 or self.local_learning_rate <= 0:
            raise ValueError(
                f"local_steps {self.local_steps} must be at least 1, local_learning_rate "
                f"{self.local_learning_rate} positive."
            )
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; it must be positive, or left out.")
        if self.noise_multiplier < 0 or (self.noise_multiplier and self.clip_norm is None):
            raise ValueError(
                f"noise_multiplier is {self.noise_multiplier}; it must not be negative, and needs "
                "a clip_norm, which is its unit."
            )
        if not 0 < self.delta < 1:
            raise ValueError(f"delta is {self.delta}; it must be between 0 and 1.")

    @classmethod
    def before_parsing(cls, data: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return the mapping with the learner read as its algorithm's hyperparameters."""
        return with_learner(data, cls.algorithm, where)

    @property
    def reads_in_order(self) -> bool:
        """Whether the clients' learner depends on the order of the support."""
        return self.learner.reads_in_order

    def build(self, setting: Setting) -> "Federated":
        """Return the learner with these hyperparameters."""
        return Federated(self, self.learner.build(setting))

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return what the clients' learner begins with."""
        return self.learner.start(built, fresh, inputs)

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return the clients' learner's parameters for another scale of values."""
        return self.learner.rescaled(built, params, ratio, shift)

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same configuration with this number of levels, where the clients' learner
        reads it."""
        return dataclasses.replace(self, learner=self.learner.with_levels(num_levels, top_share))

    def guarantees(self, epochs: int) -> dict[str, float]:
        """Return ε and δ of the updates sent in this number of epochs, where there is noise; a
        client takes part once in each epoch."""
        if self.noise_multiplier == 0:
            return {}
        epsilon = epsilon_of(self.delta, self.noise_multiplier, epochs)
        return {"epsilon": epsilon, "delta": self.delta}


class Federated:
    """Any learner, learned from updates."""

    def __init__(self, config: FederatedConfig, learner: MetaLearner) -> None:
        self.config = config
        self.learner = learner

    def init_params(self, generator: torch.Generator) -> Params:
        """Return the clients' learner's fresh meta-parameters."""
        return self.learner.init_params(generator)

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the server's result of a round: the mean of the clients' updates, with noise, and
        the mean of their losses."""
        if self.config.local_steps == 1 and self.config.clip_norm is None:
            # The mean of the clients' gradients is the gradient of their mean loss.
            return self.learner.meta_gradient(params, batch, generator)
        clients = [client_of(batch, number) for number in range(len(batch))]
        sent = [
            self.update(params, client, own)
            for client, own in zip(clients, generators_by(batch.name_B, generator), strict=True)
        ]
        updates = (self.clipped(update) for update, _ in sent)
        mean = self.aggregate(updates, generator, batch.num_together)
        return mean, {"loss": sum(loss for _, loss in sent) / len(sent)}

    def aggregate(
        self,
        updates: Iterable[Params],
        generator: torch.Generator,
        num_together: int | None = None,
    ) -> Params:
        """Return the mean of the clients' clipped updates, with the noise of a round.

        Args:
            num_together: the number of clients of the round, where these are only some of them.
                They then get the same share of the noise as of the clients.
        """
        total: Params = {}
        count = 0
        for update in updates:
            total = {n: total[n] + part for n, part in update.items()} if count else update
            count += 1
        if self.config.noise_multiplier and self.config.clip_norm:
            spread = self.config.noise_multiplier * self.config.clip_norm
            share = count / (num_together or count)
            for name, t in total.items():
                noise = torch.randn(t.shape, generator=generator, dtype=t.dtype)
                total[name] = t + spread * share * noise.to(t.device)
        return {name: t / count for name, t in total.items()}

    def update(
        self, params: Params, client: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, float]:
        """Return the update that a client sends, before clipping, and its initial loss."""
        gradients, metrics = self.learner.meta_gradient(params, client, generator)
        loss = metrics["loss"]
        if self.config.local_steps == 1:
            return {n: g.to_dense() if g.is_sparse else g for n, g in gradients.items()}, loss
        rate, own = self.config.local_learning_rate, params
        for step in range(self.config.local_steps):
            if step > 0:
                gradients, _ = self.learner.meta_gradient(own, client, generator)
            own = own | {name: own[name].detach() - rate * g for name, g in gradients.items()}
        share = 1 / (rate * self.config.local_steps)
        return {name: (p.detach() - own[name]) * share for name, p in params.items()}, loss

    def clipped(self, update: Params) -> Params:
        """Return the update, shortened where its norm exceeds the clipping norm."""
        if self.config.clip_norm is None:
            return update
        norm = torch.stack([part.norm() for part in update.values()]).norm()
        share = (self.config.clip_norm / norm.clamp(min=1e-12)).clamp(max=1.0)
        return {name: part * share for name, part in update.items()}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the users' states, as the clients' learner adapts them."""
        return self.learner.adapt(params, support)

    def derived(self, params: Params) -> Params:
        """Return what the clients' learner derives."""
        return derived(self.learner, params)

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows as the clients' learner prepares them."""
        return self.learner.prepare(params, items)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the clients' learner's predictions."""
        return self.learner.predict(params, state, items)


def client_of(batch: TaskBatch, number: int) -> TaskBatch:
    """Return one user's task, without the padding that others need."""

    def own(rows: Rows) -> Rows:
        length = int(rows.mask_BR[number].sum())
        return Rows(
            rows.item_BR[number : number + 1, :length],
            rows.statistics_BRD[number : number + 1, :length],
            rows.value_BR[number : number + 1, :length],
            rows.mask_BR[number : number + 1, :length],
        )

    user = {name: t[number : number + 1] for name, t in batch.support.user.items()}
    place_1 = None if batch.place_B is None else batch.place_B[number : number + 1]
    return TaskBatch(
        Support(user, own(batch.support.rows)), own(batch.query), place_1, batch.left_out_KIF
    )


LEARNER = FederatedConfig
