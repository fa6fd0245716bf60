"""How each learner is trained unless told otherwise.

A learner that is not here is trained as the default recipe trains MAML. All hyperparameters were
chosen on development users of MovieLens 100K, unless said otherwise.
"""

from recmeta.metalearn.model import ModelConfig
from recmeta.metalearn.trainer import TrainingConfig
from recmeta.steps.meta_train import MetaTrainConfig
from recmeta.tasks.episodes import EpisodeConfig

CLOSED_FORM = MetaTrainConfig(
    model=ModelConfig(algorithm="bayesian-linear"),
    # As many support rows as the fullest users of MeLU's protocol have.
    episodes=EpisodeConfig(batch_size=64, max_support=90, max_query=40),
    # What keeps the item vectors small is the learner's own penalty.
    training=TrainingConfig(epochs=30, patience=30, learning_rate=5e-3, weight_decay=0.0),
)
"""The closed-form learner; chosen on held-out warm users and films of MovieLens 1M."""

TUNED: dict[str, MetaTrainConfig] = {
    "bayesian-linear": CLOSED_FORM,
}


def training_of(algorithm: str) -> MetaTrainConfig:
    """Return how a learner is trained.

    Raises:
        UserError: for a learner that there is not.
    """
    return TUNED.get(algorithm) or MetaTrainConfig(model=ModelConfig(algorithm=algorithm))
