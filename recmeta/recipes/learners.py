"""How each learner is trained unless told otherwise.

A learner that is not here is trained as the default recipe trains MAML. All hyperparameters were
chosen on development users of MovieLens 100K, unless said otherwise.
"""

from recmeta.metalearn.model import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
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


def _amortised(algorithm: str) -> MetaTrainConfig:
    """Return how learners that adapt by a forward pass are trained."""
    return MetaTrainConfig(
        model=ModelConfig(algorithm=algorithm),
        training=TrainingConfig(epochs=40, patience=8, learning_rate=1e-3, weight_decay=0.1),
        start="bayesian-factors",
    )


FEDERATED = MetaTrainConfig(
    # A factorisation, and what others thought of an item, would need the clients' interactions.
    model=ModelConfig(algorithm="federated", network=PreferenceConfig(use_statistics=False)),
    training=TrainingConfig(weight_decay=0.1),
    start="random",
)
"""Clients send updates alone."""

TUNED: dict[str, MetaTrainConfig] = {
    **{name: _amortised(name) for name in ("transformer-np", "snail", "latent-np")},
    "conditional-vae": _amortised("conditional-vae"),
    "federated": FEDERATED,
    "bayesian-linear": CLOSED_FORM,
}


def training_of(algorithm: str) -> MetaTrainConfig:
    """Return how a learner is trained.

    Raises:
        UserError: for a learner that there is not.
    """
    return TUNED.get(algorithm) or MetaTrainConfig(model=ModelConfig(algorithm=algorithm))
