"""Named configurations of the whole pipeline, as plain functions."""

import dataclasses
from collections.abc import Callable

from recmeta.metalearn.algorithms.maml import MAMLConfig
from recmeta.metalearn.encoding import FeatureConfig
from recmeta.metalearn.model import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.trainer import TrainingConfig
from recmeta.serving.ranking import ScoringConfig
from recmeta.steps.build_tasks import BuildTasksConfig
from recmeta.steps.evaluate import EvaluateConfig
from recmeta.steps.meta_train import MetaTrainConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.split_config import SplitConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The configuration of every step from tasks to recommendations."""

    tasks: BuildTasksConfig = BuildTasksConfig()
    """build-tasks"""
    train: MetaTrainConfig = MetaTrainConfig()
    """meta-train"""
    evaluate: EvaluateConfig = EvaluateConfig()
    """evaluate"""
    score: ScoringConfig = ScoringConfig()
    """score"""


MELU_TASKS = BuildTasksConfig(
    split=SplitConfig(split="melu_states", query_size=10, min_interactions=13, max_interactions=100)
)
"""13 to 100 ratings per user, 10 random ones as query, four states (Lee et al., KDD 2019)."""
CLOSED_FORM = MetaTrainConfig(
    model=ModelConfig(algorithm="bayesian-linear"),
    # As many support rows as the fullest users of MeLU's protocol have.
    episodes=EpisodeConfig(batch_size=64, max_support=90, max_query=40),
    # What keeps the item vectors small is the learner's own penalty.
    training=TrainingConfig(epochs=30, patience=30, learning_rate=5e-3, weight_decay=0.0),
)
"""The closed-form learner, trained."""


def default() -> PipelineConfig:
    """Any log: temporal tasks where there are times, every attribute, MAML on wide-and-deep layers.

    MAML from a Bayesian factorisation, medians, half of the batches with all items as new: chosen on
    development users of MovieLens 100K and 1M in time order.
    """
    return PipelineConfig(
        train=MetaTrainConfig(
            model=ModelConfig(
                learner=MAMLConfig(estimate="median", hidden_share=0.5, support_prior=10.0)
            ),
            training=TrainingConfig(epochs=20, patience=6, learning_rate=3e-3, weight_decay=0.05),
            start="bayesian-factors",
        )
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
            ),
            episodes=EpisodeConfig(batch_size=32, resample=False),
            training=TrainingConfig(
                epochs=30, patience=30, learning_rate=5e-5, weight_decay=0.0, clip_norm=1e6
            ),
            start="random",
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
