"""An algorithm as the rest of the library sees it: its hyperparameters, which build its learner and
define how it starts."""

import dataclasses
from typing import ClassVar, Self

from recmeta.metalearn.learner import MetaLearner, Params
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.networks.embedding import EmbeddingNetwork
from recmeta.metalearn.networks.registry import network_of
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.starts.of_networks import rescale_last_layer, start_embeddings
from recmeta.metalearn.tensors.encoding import Features, Field
from recmeta.tasks.task_set import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The model that a learner is built for: its attributes, its catalogue and its feedback."""

    user_fields: tuple[Field, ...]
    """The attributes of users that it may read."""
    item_fields: tuple[Field, ...]
    """The attributes of items that it may read, the id among them where items have one."""
    item_features: Features
    """The encoded catalogue, a row per version of an item."""
    network_config: PreferenceConfig
    """The configured shape of the network."""
    objective: Objective
    """Ratings, or implicit feedback of 0 and 1."""
    value_range: tuple[float, float]
    """The lowest and the highest value, in units of the model."""

    @property
    def is_graded(self) -> bool:
        """Whether feedback is ratings."""
        return self.objective == "rating"

    @property
    def network(self) -> EmbeddingNetwork:
        """The preference estimator of the configured kind and shape."""
        return network_of(
            self.network_config, self.user_fields, self.item_fields, graded=self.is_graded
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """The base of every algorithm's hyperparameters. A plain `LearnerConfig` in a model's
    configuration stands for the defaults of the algorithm that is named there."""

    @property
    def reads_in_order(self) -> bool:
        """Whether a user's state depends on the order of their support. If so, training presents
        supports in the order of time."""
        return False

    @property
    def begins_trained(self) -> bool:
        """Whether meta-training begins with a trained model. If so, an epoch is kept only if it is
        better than that model by more than a standard error."""
        return False

    objectives: ClassVar[tuple[Objective, ...]] = ("rating", "implicit")
    """The kinds of feedback that the learner can learn from."""

    def build(self, setting: Setting) -> MetaLearner:
        """Return the learner with these hyperparameters."""
        raise NotImplementedError(f"{type(self).__name__} must say how to build its learner.")

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return what meta-training begins with. By default, this is the start of a learner with
        embeddings: those of items are filled from the configured factorisation, and those of
        content from the source.

        Args:
            built: the model, without parameters.
            fresh: the result of the learner's `init_params`; it is not changed.

        Raises:
            UserError: if nothing of the source's content fits the model.
        """
        return Start(start_embeddings(built, fresh, inputs))

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return parameters for values v' = ratio · v + shift that predict as these do of v. By
        default, only the last layer of the network differs.

        Args:
            built: the model that they are for.
        """
        return rescale_last_layer(built, params, ratio, shift)

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same configuration for a scale of values with this number of levels, or
        without levels if None. An algorithm that reads them keeps a number that is set already.

        Args:
            top_share: the share of the most frequent value among all values.
        """
        return self

    def guarantees(self, epochs: int) -> dict[str, float]:
        """Return the guarantees for a model after this number of epochs, such as the `epsilon` and
        `delta` of a private one; most learners give none."""
        return {}
