"""Named configurations of the whole pipeline, as plain functions."""

import dataclasses
from collections.abc import Callable

from recmeta.evaluation.judgement import JudgementConfig
from recmeta.logs.settling.budget import IngestConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.parts.task_building import BuildTasksConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import Objective
from recmeta.training.config import MetaTrainConfig
from recmeta.training.recipes import CLOSED_FORM, WEIGHTED_RIDGE, training_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The configuration of every step from the log to recommendations."""

    ingest: IngestConfig = IngestConfig()
    """ingest"""
    tasks: BuildTasksConfig = BuildTasksConfig()
    """The step `build-tasks`."""
    train: MetaTrainConfig = MetaTrainConfig()
    """The step `meta-train`, for ratings."""
    implicit: MetaTrainConfig | None = None
    """The step `meta-train` for implicit feedback; if not set, as in `train`."""
    rival: MetaTrainConfig | None = None
    """A second model, trained for the report alone and never promoted. If not set, there is
    none."""
    implicit_rival: MetaTrainConfig | None = None
    """The second model for implicit feedback; if not set, as in `rival`."""
    evaluate: JudgementConfig = JudgementConfig()
    """The step `evaluate`."""
    score: ScoringConfig = ScoringConfig()
    """The step `score`."""

    def training_for(self, objective: Objective) -> MetaTrainConfig:
        """Return how the model is trained on feedback of this kind."""
        return (self.implicit or self.train) if objective == "implicit" else self.train

    def rival_for(self, objective: Objective) -> MetaTrainConfig | None:
        """Return how the second model is trained, where it is another learner than the first."""
        first = self.training_for(objective).model.algorithm
        rival = (self.implicit_rival or self.rival) if objective == "implicit" else self.rival
        return rival if rival and rival.model.algorithm != first else None


MELU_TASKS = BuildTasksConfig(
    split=SplitConfig(split="melu_states", query_size=10, min_interactions=13, max_interactions=100)
)
"""13 to 100 ratings per user, 10 random ones as query, four states (Lee et al., KDD 2019)."""


def default() -> PipelineConfig:
    """Any log: temporal tasks where there are times, every attribute, and MAML on top of the closed
    form, of the learners that train on a million ratings within ten minutes on two cores and adapt
    to a user within a millisecond the one whose lists development users liked best.

    For ratings the closed form is Bayesian linear regression, for implicit feedback weighted ridge
    regression, each on a factorisation's item vectors. The report compares MAML with it alone.
    """
    return PipelineConfig(
        train=training_of("maml"),
        implicit=training_of("maml", "implicit"),
        rival=CLOSED_FORM,
        implicit_rival=WEIGHTED_RIDGE,
    )


def melu_paper() -> PipelineConfig:
    """MeLU with its published hyperparameters (Lee et al., KDD 2019, section 4, and its code).

    Content features alone, 13 to 100 ratings per user, 10 random ones as query, four states, one
    inner step of rate 5e-6 on the mean squared loss, Adam of rate 5e-5, 30 epochs.
    """
    return PipelineConfig(
        tasks=MELU_TASKS,
        train=MetaTrainConfig(
            model=ModelConfig(
                features=FeatureConfig(use_item_id=False),
                network=PreferenceConfig(
                    wide=False, use_statistics=False, start_from_item_mean=False
                ),
                learner=MAMLConfig(
                    num_steps=1,
                    inner_learning_rate=5e-6,
                    learn_rates=False,
                    support_prior=0.0,
                    inner_objective="squared",
                    outer_objective="squared",
                ),
                popularity_weight=0.0,
            ),
            episodes=EpisodeConfig(batch_size=32, resample=False),
            training=TrainingConfig(
                epochs=30, patience=30, learning_rate=5e-5, weight_decay=0.0, clip_norm=1e6
            ),
            start="random",
            lists="popularity",
            levels="none",
        ),
    )


def bayesian_linear() -> PipelineConfig:
    """Any log of ratings: temporal tasks, and adaptation in closed form (Harrison, Sharma, Pavone,
    WAFR 2018) on item vectors that start from a Bayesian matrix factorisation.

    Ratings are predicted as medians of the scale's levels, where it has such.
    """
    return PipelineConfig(train=CLOSED_FORM)


def melu_ml1m() -> PipelineConfig:
    """MeLU's protocol (see `melu_paper`) with the closed-form learner.

    The hyperparameters were chosen on held-out warm users and on the newest warm films.
    """
    return PipelineConfig(tasks=MELU_TASKS, train=CLOSED_FORM)


def maml_ml1m() -> PipelineConfig:
    """MeLU's protocol with MAML as strong as it could be made on held-out warm users and films.

    Item ids beside content, both from a Bayesian matrix factorisation; five steps of learned rates
    on the last layer; the median as the prediction; half of the batches with all items as new.
    """
    return PipelineConfig(
        tasks=MELU_TASKS,
        train=MetaTrainConfig(
            model=ModelConfig(
                network=PreferenceConfig(use_statistics=False),
                learner=MAMLConfig(
                    num_steps=5,
                    adapt_layers="last",
                    support_prior=10.0,
                    estimate="median",
                    hidden_share=0.5,
                ),
            ),
            episodes=EpisodeConfig(batch_size=32, max_support=90, max_query=40),
            training=TrainingConfig(epochs=12, patience=12, learning_rate=3e-3, weight_decay=0.05),
            start="bayesian-factors",
        ),
    )


RECIPES: dict[str, Callable[[], PipelineConfig]] = {
    "default": default,
    "melu-paper": melu_paper,
    "bayesian-linear": bayesian_linear,
    "melu-ml1m": melu_ml1m,
    "maml-ml1m": maml_ml1m,
}
