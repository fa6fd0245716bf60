"""The configuration of learners inside another learner."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from recmeta.metalearn.learner import MetaLearner
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.registry import config_class, with_learner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A learner inside another one."""

    algorithm: str = "maml"
    """A name in `recmeta.metalearn.registry.LEARNERS`."""
    learner: LearnerConfig = LearnerConfig()
    """The hyperparameters of that algorithm; a plain `LearnerConfig` stands for its defaults."""
    network: PreferenceConfig | None = None
    """The member's preference estimator; if not set, the model's."""
    num_negatives: int | None = None
    """`ModelConfig.num_negatives` for the training of this member; if not set, the model's."""

    def __post_init__(self) -> None:
        if self.algorithm == "selector":
            raise ValueError("a member's algorithm is 'selector'; it must be another learner.")
        if type(self.learner) is LearnerConfig:
            object.__setattr__(self, "learner", config_class(self.algorithm)())

    @classmethod
    def before_parsing(cls, data: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return the mapping with the learner read as its algorithm's hyperparameters."""
        return with_learner(data, cls.algorithm, where)

    def build(self, setting: Setting) -> MetaLearner:
        """Return the learner.

        Args:
            setting: of the model whose member it is.
        """
        network = self.network or setting.network_config
        return self.learner.build(dataclasses.replace(setting, network_config=network))

    def with_levels(self, num_levels: int | None, top_share: float) -> "Member":
        """Return the same member for a scale of values: see `LearnerConfig.with_levels`."""
        learner = self.learner.with_levels(num_levels, top_share)
        return dataclasses.replace(self, learner=learner)


@runtime_checkable
class HasMembers(Protocol):
    """The hyperparameters of a learner that has others inside, which are trained before it."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The learners inside; empty if it is used without any."""
        ...

    def with_members(self, members: Sequence[Member]) -> Self:
        """Return the same configuration with these members.

        Raises:
            ValueError: if it cannot have this number of members.
        """
        ...


def as_member(number: int, tensors: dict[str, Any]) -> dict[str, Any]:
    """Return a member's tensors by the names that they have in the learner around it."""
    return {f"member.{number}.{name}": t for name, t in tensors.items()}


def of_member(number: int, tensors: dict[str, Any]) -> dict[str, Any]:
    """Return a member's tensors by their own names."""
    start = f"member.{number}."
    length = len(start)
    return {name[length:]: t for name, t in tensors.items() if name[:length] == start}


def without_members(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors that belong to no member."""
    return {name: t for name, t in tensors.items() if not name.startswith("member.")}
