"""What an algorithm is to the rest of the library: its hyperparameters, which build its learner and
say how it starts."""

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
    """What a learner is built for: the attributes, the catalogue and the feedback of a model."""

    user_fields: tuple[Field, ...]
    """The attributes of users that it may read."""
    item_fields: tuple[Field, ...]
    """The attributes of items that it may read, the id among them where items have one."""
    item_features: Features
    """The encoded catalogue, a row per version of an item."""
    network_config: PreferenceConfig
    """The shape that the user asked for."""
    objective: Objective
    """Ratings, or implicit feedback of 0 and 1."""
    value_range: tuple[float, float]
    """Lowest and highest value, in units of the model."""

    @property
    def is_graded(self) -> bool:
        """Whether feedback is ratings."""
        return self.objective == "rating"

    @property
    def network(self) -> EmbeddingNetwork:
        """The preference estimator of that kind and shape."""
        return network_of(
            self.network_config, self.user_fields, self.item_fields, graded=self.is_graded
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """Base of every algorithm's hyperparameters. On its own it says nothing: in a model's
    configuration it stands for the defaults of the algorithm that is named there."""

    @property
    def reads_in_order(self) -> bool:
        """Whether what it learns of a user depends on the order of their support; training then
        presents supports in the order of time."""
        return False

    @property
    def begins_trained(self) -> bool:
        """Whether meta-training begins with a trained model, which it may only add to: an epoch is
        kept where it is better than that by more than a standard error."""
        return False

    objectives: ClassVar[tuple[Objective, ...]] = ("rating", "implicit")
    """The kinds of feedback that the learner can learn from."""

    def build(self, setting: Setting) -> MetaLearner:
        """Return the learner with these hyperparameters."""
        raise NotImplementedError(f"{type(self).__name__} must say how to build its learner.")

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return what meta-training begins with. Unless a learner says otherwise, a learner with
        embeddings: its items' are filled from the factorisation that is asked for, and its
        content's from the source.

        Args:
            built: the model, without parameters.
            fresh: what the learner's `init_params` gave; it stays as it is.

        Raises:
            UserError: where nothing of the source's content has a place in the model.
        """
        return Start(start_embeddings(built, fresh, inputs))

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return parameters for values v' = ratio · v + shift that predict as these do of v.
        Unless a learner says otherwise, those of a network with another last layer.

        Args:
            built: the model that they are for.
        """
        return rescale_last_layer(built, params, ratio, shift)

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same for a scale of values with so many levels; if None, one without steps. An
        algorithm that reads them keeps what it was told by its user.

        Args:
            top_share: share of the most frequent value among all.
        """
        return self

    def guarantees(self, epochs: int) -> dict[str, float]:
        """Return what can be promised of a model after so many epochs, such as the `epsilon` and
        `delta` of a private one; most promise nothing."""
        return {}
