"""A learner for each task: algorithm selection by a gate that reads only the task's metadata.

    w_u = softmax(gate(metadata_u))                      metadata: see tensors/task_metadata.py
    hard:  output_ur = m_k(S_u, r),  k = argmax_k w_uk   learned by  Σ_k w_uk L(Q_u; m_k(S_u))
    soft:  output_ur = Σ_k w_uk m_k(S_u, r)              learned by  L(Q_u; Σ_k w_uk m_k(S_u))

The problem is Rice's (The algorithm selection problem, Advances in Computers 1976). One algorithm
per user: Collins, Tkaczyk, Beel (One-at-a-time: a meta-learning recommender-system, 2018); a
mixture of adapted ones: Luo et al. (MetaSelector, WWW 2020). The gate's gradient never reaches the
members: each of them learns by its own loss, before the gate or along with it.

Legend: B users, R rows, K members, M numbers of a task's metadata.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Self

import torch

from recmeta.metalearn.inner_loop.objectives import ObjectiveName, loss_of
from recmeta.metalearn.learner import (
    MetaLearner,
    Metrics,
    Params,
    Prediction,
    UserState,
    derived,
)
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.member_config import Member, as_member, of_member
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.numerics.sparse_gradients import gradients_by
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.metalearn.tensors.task_metadata import METADATA, task_metadata

CHOICE = "choice"
"""The members' weights in a user's state, (B, K)."""
FEWEST_MEMBERS = 2
FIRST_STEP = 0.1
"""Gain of the gate's last layer: it begins without a preference."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectorConfig(LearnerConfig):
    """What there is to choose from, and how."""

    members: tuple[Member, ...] = (Member(algorithm="bayesian-linear"), Member(algorithm="anil"))
    """The learners to choose from. Where `train.members` says how they are trained, it also names
    them."""
    choice: Literal["hard", "soft"] = "hard"
    """One member for each user, or a mixture of all."""
    width: int = 16
    """The number of hidden units of the gate; with 0 the gate is linear."""
    members_learn: bool = True
    """Whether the members continue to learn while the gate does, each by its own loss
    (MetaSelector). If false, they stay as they were trained before the gate."""
    outer_objective: ObjectiveName | None = None
    """The loss of the query, in units of the model. If not set, it is `absolute` for ratings and
    `bce` for implicit feedback."""

    def __post_init__(self) -> None:
        if len(self.members) < FEWEST_MEMBERS:
            raise ValueError(
                f"members has {len(self.members)} learners; give {FEWEST_MEMBERS} or more."
            )
        if self.width < 0:
            raise ValueError(f"width is {self.width}; it must not be negative.")

    @property
    def reads_in_order(self) -> bool:
        """Whether any member depends on the order of the support."""
        return any(member.learner.reads_in_order for member in self.members)

    def with_members(self, members: Sequence[Member]) -> Self:
        """Return the same configuration with these learners to choose from."""
        return dataclasses.replace(self, members=tuple(members))

    def build(self, setting: Setting) -> "Selector":
        """Return the learner with these hyperparameters."""
        return Selector(self, setting)

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same configuration with this number of levels for the members that read it."""
        members = tuple(member.with_levels(num_levels, top_share) for member in self.members)
        return dataclasses.replace(self, members=members)


@dataclasses.dataclass(frozen=True)
class SelectorRows(Rows):
    """Rows as each member prepares them."""

    by_member: tuple[Rows, ...]


class Selector:
    """Several learners, and for each user the weights of their predictions."""

    def __init__(self, config: SelectorConfig, setting: Setting) -> None:
        self.config = config
        self.item_features = setting.item_features
        self.members: list[MetaLearner] = [member.build(setting) for member in config.members]
        self.loss = loss_of(config.outer_objective or ("absolute" if setting.is_graded else "bce"))

    def init_params(self, generator: torch.Generator) -> Params:
        """Return the members' fresh meta-parameters and the gate's."""
        params: Params = {}
        for number, member in enumerate(self.members):
            params |= as_member(number, member.init_params(generator))
        num_in, num_members = len(METADATA), len(self.members)
        if self.config.width == 0:
            return params | init_dense("gate", num_in, num_members, generator, gain=FIRST_STEP)
        return (
            params
            | init_dense("gate.hidden", num_in, self.config.width, generator)
            | init_dense("gate", self.config.width, num_members, generator, gain=FIRST_STEP)
        )

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the gate's gradient, the members' own where they learn, and the loss of the
        choice."""
        query = batch.query
        with torch.no_grad():
            found = [
                member.predict(own, member.adapt(own, batch.support), query).mean_BR
                for member, own in self._each(params)
            ]
        leaves = {n: p.detach().requires_grad_() for n, p in params.items() if _is_gate(n)}
        with torch.enable_grad():
            weight_BK = self._weights(leaves, batch.support)
            if self.config.choice == "soft":
                output_BR = (torch.stack(found, -1) @ weight_BK[..., None])[..., 0]
                loss = self.loss(output_BR, query.value_BR, query.mask_BR).mean()
            else:
                losses = [self.loss(o_BR, query.value_BR, query.mask_BR) for o_BR in found]
                loss = (torch.stack(losses, -1) * weight_BK).sum(1).mean()
            gradients = gradients_by(loss, leaves)
        if self.config.members_learn:
            for number, (member, own) in enumerate(self._each(params)):
                gradients |= as_member(number, member.meta_gradient(own, batch, generator)[0])
        return gradients, {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the members' states, and the users' weights of their predictions."""
        state: UserState = {}
        for number, (member, own) in enumerate(self._each(params)):
            state |= as_member(number, member.adapt(own, support))
        weight_BK = self._weights(params, support)
        if self.config.choice == "hard":
            chosen_B = weight_BK.argmax(1)
            weight_BK = torch.zeros_like(weight_BK).scatter_(1, chosen_B[:, None], 1.0)
        return {**state, CHOICE: weight_BK}

    def derived(self, params: Params) -> Params:
        """Return what the members derive."""
        found: Params = {}
        for number, (member, own) in enumerate(self._each(params)):
            found |= as_member(number, derived(member, own))
        return found

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows as each member prepares them."""
        prepared = tuple(member.prepare(own, items) for member, own in self._each(params))
        return SelectorRows(**vars(items), by_member=prepared)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the weighted predictions. Where every member has a spread, theirs is that of the
        mixture."""
        sides = items.by_member if isinstance(items, SelectorRows) else (items,) * len(self.members)
        found = [
            member.predict(own, of_member(number, state), sides[number])
            for number, (member, own) in enumerate(self._each(params))
        ]
        weight_BK = state[CHOICE]

        def mixed(parts: list[torch.Tensor]) -> torch.Tensor:
            total_BR = parts[0] * weight_BK[:, :1]
            for number, part_BR in enumerate(parts[1:], 1):
                total_BR = total_BR + part_BR * weight_BK[:, number : number + 1]
            return total_BR

        mean_BR = mixed([f.mean_BR for f in found])
        utility_BR, spread_BR = None, None
        if any(f.utility_BR is not None for f in found):
            utility_BR = mixed([f.ranked_by_BR for f in found])
        spreads = [f.spread_BR for f in found if f.spread_BR is not None]
        if len(spreads) == len(found):
            squares = [
                s_BR.square() + (f.mean_BR - mean_BR).square()
                for s_BR, f in zip(spreads, found, strict=True)
            ]
            spread_BR = mixed(squares).sqrt()
        return Prediction(mean_BR, spread_BR, utility_BR)

    def _weights(self, params: Params, support: Support) -> torch.Tensor:
        """Return the gate's weights, (B, K)."""
        task_BM = task_metadata(support, self.item_features, params["gate.bias"].dtype)
        if self.config.width:
            task_BM = torch.relu(dense(params, "gate.hidden", task_BM))
        return dense(params, "gate", task_BM).softmax(1)

    def _each(self, params: Params) -> list[tuple[MetaLearner, Params]]:
        return [(m, of_member(number, params)) for number, m in enumerate(self.members)]


def _is_gate(name: str) -> bool:
    return name.startswith("gate")


LEARNER = SelectorConfig
