"""The definition of a model: which attributes it reads, how it adapts to a user, how it ranks."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from recmeta.config import parse
from recmeta.errors import UserError
from recmeta.metalearn.learner_config import LearnerConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.registry import NETWORKS
from recmeta.metalearn.registry import LEARNERS, config_class, with_learner
from recmeta.metalearn.tensors.encoding import FeatureConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The definition of a model, apart from how it is trained."""

    features: FeatureConfig = FeatureConfig()
    """Which attributes the model reads."""
    network: PreferenceConfig = PreferenceConfig()
    """The preference estimator, for the algorithms that have one."""
    algorithm: str = "maml"
    """How the model adapts to a user: a name in `recmeta.metalearn.registry.LEARNERS`."""
    learner: LearnerConfig = LearnerConfig()
    """The hyperparameters of that algorithm. A plain `LearnerConfig` stands for its defaults and is
    replaced by them."""
    prior_strength: float = 10.0
    """An item's mean value is shrunk to the global mean as if this many more users had given that
    mean."""
    num_negatives: int = 4
    """The number of sampled negatives per positive row of a support or query, for implicit
    feedback."""
    popularity_weight: float = 2.0
    """How strongly popularity weighs in the lists of a rating model with `lists = "popularity"`. A
    list is ordered by the expected value, in standard deviations of the value, plus this weight
    times log(1 + number of users who met the item). With 0 it is ordered by the expected value
    alone."""

    def __post_init__(self) -> None:
        NETWORKS.module_of(self.network.kind)  # an unknown one is refused before anything runs
        wanted = config_class(self.algorithm)
        if type(self.learner) is LearnerConfig:
            object.__setattr__(self, "learner", wanted())
        elif type(self.learner) is not wanted:
            raise UserError(
                f"learner is a {type(self.learner).__name__}, and the algorithm "
                f"{self.algorithm!r} has a {wanted.__name__}: name its algorithm, too."
            )

    @classmethod
    def before_parsing(cls, data: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Return the mapping with the learner read as its algorithm's hyperparameters.

        Models that were saved when there were only two algorithms have the hyperparameters of both.
        """
        values = dict(data)
        algorithm = values.get("algorithm", cls.algorithm)
        closed_form = values.pop("bayesian_linear", {})
        if algorithm == "bayesian-linear" and closed_form:
            values["learner"] = closed_form
        return with_learner(values, cls.algorithm, where)

    @property
    def learner_name(self) -> str:
        """The name of the model in reports."""
        return self.algorithm


def packages_of(config: ModelConfig) -> list[str]:
    """Return the third-party distributions, with their versions, that a model's learner and network
    are from."""
    found = (
        LEARNERS.distribution_of(config.algorithm),
        NETWORKS.distribution_of(config.network.kind),
    )
    return sorted({package for package in found if package is not None})


def saved_config(data: Mapping[str, Any], packages: Sequence[str]) -> ModelConfig:
    """Return the configuration of a saved model.

    Args:
        packages: the third-party packages that it was made with, as `packages_of` returned them.

    Raises:
        UserError: if it cannot be read; the message names the packages.
    """
    try:
        return parse(ModelConfig, data)
    except UserError as error:
        if not packages:
            raise
        raise UserError(
            f"the model was made with {' and '.join(packages)}: install that to load it. {error}"
        ) from error
