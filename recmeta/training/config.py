"""Everything that decides which model is trained on a task set."""

import dataclasses
from typing import Literal

from recmeta.errors import UserError
from recmeta.evaluation.certificate import CertificateConfig
from recmeta.metalearn.members import with_members
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.metalearn.starts.beginning import StartName
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.training.augmentation.config import AugmentConfig
from recmeta.training.choices.config import ChoiceConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTrainConfig:
    """Everything that decides which model is trained on a task set."""

    model: ModelConfig = ModelConfig()
    """Features, network and learner."""
    episodes: EpisodeConfig = EpisodeConfig()
    """How training presents users."""
    training: TrainingConfig = TrainingConfig()
    """The outer loop."""
    start: StartName = "factors"
    """`factors`: the items' embeddings start from a matrix factorisation, whose size and
    regularisation the development users choose. `bayesian-factors`: from a factorisation that needs
    no tuning and whose items fall back on content; the embeddings of content start from it, too.
    The Bayesian linear learner starts from the latter in both cases; implicit feedback starts from
    a weighted factorisation in both cases. `champion`: everything starts from the current champion;
    before there is one, from `factors`."""
    content_from: str | None = None
    """A model, possibly of another data set, from whose content this one starts: its folder, or
    `models:/NAME/VERSION` or `models:/NAME@ALIAS` in MLflow. Attributes are matched by name and
    categories by value; ids are never carried over. Both models need the same learner and widths.
    This cannot be combined with `start = "champion"`."""
    freeze_content: bool = False
    """Whether the content that `content_from` provides is kept unchanged; otherwise it continues to
    learn."""
    last_layer_ridge: float | None = None
    """The penalty of a ridge regression of the values on the inputs of MAML's last layer, with
    which that layer starts. If not set, the layer starts as the sum of the items' biases. It
    applies only to ratings with `start = "factors"`."""
    refit: bool = False
    """Whether the final model also learns from the development users: once they have chosen the
    number of epochs, training starts again with them among the training users. It applies only to
    implicit feedback."""
    lists: Literal["learned", "popularity"] = "learned"
    """The order of lists. `learned`: the learner's score, recent popularity, and which items were
    taken together and one after the other, with weights that the development users choose.
    `popularity`: the learner's score and, for ratings, `popularity_weight` times the logarithm of
    popularity; co-occurrence of items is then not counted."""
    levels: Literal["learned", "none"] = "learned"
    """The distribution of ratings over the levels of their scale. `learned`: from the learner's
    prediction, neighbours and the item's past, where development users are predicted better for it.
    `none`: predictions are the learner's own."""
    choices: ChoiceConfig = ChoiceConfig(epochs=0)
    """How MAML meta-learns what users take next, for learned lists; with `epochs = 0` it does not.
    The recipes of `maml` and of the closed forms learn it."""
    certificate: CertificateConfig | None = CertificateConfig()
    """The certainty that is required, for users with a number of answers, that learned lists are no
    worse than those of recent popularity. Users without it get lists of recent popularity. If None,
    all users get learned lists."""
    augment: AugmentConfig | None = None
    """Generated users of rare profiles, on whom the members and the learner are meta-trained
    besides the real users, or None for no such users."""
    seed: int = 0
    """The seed of initial parameters and of the order of users."""
    members: tuple["MetaTrainConfig", ...] = ()
    """The learners inside this one, and how each is trained before it: those from which a selector
    chooses, or the base of MAML's layers. The features that they read, the seed and `content_from`
    are those of the whole. Without members, those that a selector names are trained together with
    its gate, from `random`."""

    def __post_init__(self) -> None:
        if self.members:
            if any(how.content_from is not None for how in self.members):
                raise ValueError(
                    "content_from is given for a member: give it for the whole model instead."
                )
            if any(how.augment is not None for how in self.members):
                raise ValueError("augment is given for a member: give it for the whole instead.")
            models = tuple(how.model for how in self.members)
            object.__setattr__(self, "model", with_members(self.model, models))
        elif self.model.learner.begins_trained:  # no member says how
            object.__setattr__(self, "model", with_members(self.model, ()))
        if self.content_from is None and self.freeze_content:
            raise UserError("freeze_content is true without content_from: name the model, too.")
        if self.augment is not None and self.refit:
            raise UserError("augment is given with refit, which is for implicit feedback only.")
        if self.content_from is not None and self.start == "champion":
            raise UserError(
                f"content_from is {self.content_from!r} and start 'champion', which brings its own "
                "content: start from 'factors', 'bayesian-factors' or 'random' instead."
            )
