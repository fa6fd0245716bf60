"""How each learner is trained by default.

All hyperparameters were chosen on development users of MovieLens 100K, unless noted otherwise. An
algorithm without a recipe is trained with the defaults of `MetaTrainConfig`.
"""

import dataclasses

from recmeta.metalearn.algorithms.combined.selector import SelectorConfig
from recmeta.metalearn.algorithms.metric_based.matching import MatchingConfig
from recmeta.metalearn.algorithms.metric_based.prototypical import PrototypicalConfig
from recmeta.metalearn.algorithms.model_based.adversarial import AdversarialConfig
from recmeta.metalearn.algorithms.model_based.conditional_vae import ConditionalVAEConfig
from recmeta.metalearn.algorithms.model_based.film import FiLMConfig
from recmeta.metalearn.algorithms.optimisation_based.anil import ANILConfig
from recmeta.metalearn.algorithms.optimisation_based.fomaml import FOMAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.implicit_maml import ImplicitMAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.algorithms.optimisation_based.mamo import MAMOConfig
from recmeta.metalearn.algorithms.optimisation_based.meta_lstm import MetaLSTMConfig
from recmeta.metalearn.algorithms.optimisation_based.meta_sgd import MetaSGDConfig
from recmeta.metalearn.algorithms.optimisation_based.reptile import ReptileConfig
from recmeta.metalearn.algorithms.optimisation_based.transfer_fine_tuned import FineTunedConfig
from recmeta.metalearn.algorithms.optimisation_based.transfer_frozen import FrozenConfig
from recmeta.metalearn.learner_config import LearnerConfig
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import Objective
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.config import MetaTrainConfig

CLOSED_FORM = MetaTrainConfig(
    model=ModelConfig(algorithm="bayesian-linear"),
    # The largest number of support rows in MeLU's protocol.
    episodes=EpisodeConfig(batch_size=64, max_support=90, max_query=40),
    # The learner's own penalty keeps the item vectors small.
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


WEIGHTED_RIDGE = MetaTrainConfig(
    model=ModelConfig(algorithm="weighted-ridge", num_negatives=0),
    episodes=EpisodeConfig(batch_size=64, max_support=45, max_query=32),
    training=TrainingConfig(
        epochs=20, patience=4, learning_rate=1e-3, weight_decay=0.0, dev_items=50_000
    ),
    refit=True,
)
"""Implicit feedback in closed form; chosen on held-out warm users of Last.FM."""

IMPLICIT_MAML = MetaTrainConfig(
    model=ModelConfig(
        algorithm="maml",
        network=PreferenceConfig(embedding_dim=8, hidden_dims=(16,)),
        learner=MAMLConfig(support_prior=10.0),
    ),
    episodes=EpisodeConfig(batch_size=64, max_support=45, max_query=32),
    training=TrainingConfig(
        epochs=0, patience=1, learning_rate=3e-4, weight_decay=0.1, dev_items=50_000
    ),
    refit=True,
    members=(WEIGHTED_RIDGE,),
    choices=ChoiceConfig(),
)
"""MAML on the closed form of implicit feedback. Gradient steps serve to predict what users take
next; layers on top of the scores made lists worse on development users of Last.FM
(docs/choices.md), and keep their start unless `training.epochs` says otherwise."""

PRIOR_FITTED = MetaTrainConfig(
    model=ModelConfig(algorithm="prior-fitted", num_negatives=0, popularity_weight=0.0),
    training=TrainingConfig(epochs=0, patience=1, learning_rate=1e-4, weight_decay=0.0),
    lists="popularity",
)
"""A prior for everybody: the statistics of the log are counted, and nothing is trained."""

CONDITIONAL_VAE = MetaTrainConfig(
    model=ModelConfig(
        algorithm="conditional-vae",
        network=PreferenceConfig(hidden_dims=(128, 64)),
        learner=ConditionalVAEConfig(width=16, hidden_share=0.25, divergence_weight=0.86),
    ),
    training=TrainingConfig(epochs=40, patience=8, learning_rate=3.5e-4, weight_decay=0.12),
    start="bayesian-factors",
)
"""Found by `recmeta tune`, in sixteen trials."""

FEDERATED = MetaTrainConfig(
    # A factorisation, item statistics and co-occurrence would need the clients' interactions.
    model=ModelConfig(algorithm="federated", network=PreferenceConfig(use_statistics=False)),
    training=TrainingConfig(weight_decay=0.1),
    start="random",
    lists="popularity",
)
"""Federated clients, which send only updates."""


def _on_network(
    algorithm: str, learner: LearnerConfig, *, use_statistics: bool = False
) -> MetaTrainConfig:
    """Return the training of a learner on a preference estimator, which starts from a factorisation
    of items and their content. If the learner has this share, half of its batches are without item
    ids, since it would otherwise memorise the training users' items."""
    return MetaTrainConfig(
        model=ModelConfig(
            algorithm=algorithm,
            network=PreferenceConfig(use_statistics=use_statistics),
            learner=learner,
        ),
        training=TrainingConfig(epochs=20, patience=6, learning_rate=3e-3, weight_decay=0.05),
        start="bayesian-factors",
    )


TUNED: dict[str, MetaTrainConfig] = {
    "maml": dataclasses.replace(
        _on_network(
            "maml",
            MAMLConfig(hidden_share=0.5, support_prior=10.0),
            use_statistics=True,  # chosen on MovieLens 1M in time order, too
        ),
        training=TrainingConfig(epochs=10, patience=3, learning_rate=3e-4, weight_decay=0.05),
        members=(CLOSED_FORM,),
        choices=ChoiceConfig(),
    ),
    "fomaml": _on_network(
        "fomaml", FOMAMLConfig(estimate="median", hidden_share=0.5, support_prior=10.0)
    ),
    "anil": _on_network(
        "anil", ANILConfig(num_steps=5, estimate="median", hidden_share=0.5, support_prior=10.0)
    ),
    "meta-sgd": _on_network(
        "meta-sgd", MetaSGDConfig(estimate="median", hidden_share=0.5, support_prior=10.0)
    ),
    "mamo": _on_network(
        "mamo", MAMOConfig(estimate="median", hidden_share=0.5, support_prior=10.0)
    ),
    "reptile": _on_network(
        "reptile", ReptileConfig(inner_objective="absolute", hidden_share=0.5, support_prior=10.0)
    ),
    "implicit-maml": _on_network(
        "implicit-maml", ImplicitMAMLConfig(hidden_share=0.5, support_prior=10.0)
    ),
    "meta-lstm": _on_network("meta-lstm", MetaLSTMConfig(hidden_share=0.5, support_prior=10.0)),
    "transfer-frozen": _on_network(
        "transfer-frozen", FrozenConfig(estimate="median", hidden_share=0.5, support_prior=10.0)
    ),
    "transfer-fine-tuned": _on_network(
        "transfer-fine-tuned",
        FineTunedConfig(estimate="median", hidden_share=0.5, support_prior=10.0),
    ),
    "matching": _on_network("matching", MatchingConfig(hidden_share=0.5)),
    "prototypical": _on_network("prototypical", PrototypicalConfig(hidden_share=0.5)),
    "film": _on_network("film", FiLMConfig(hidden_share=0.5)),
    **{name: _amortised(name) for name in ("transformer-np", "snail", "latent-np")},
    "conditional-vae": CONDITIONAL_VAE,
    "adversarial": _on_network("adversarial", AdversarialConfig(hidden_share=0.5)),
    "prior-fitted": PRIOR_FITTED,
    "federated": FEDERATED,
    "bayesian-linear": CLOSED_FORM,
    "weighted-ridge": WEIGHTED_RIDGE,
}
# A closed form, gradient steps and a forward pass. The other settings are those of the gate.
TUNED["selector"] = MetaTrainConfig(
    model=ModelConfig(algorithm="selector", learner=SelectorConfig(members_learn=False)),
    episodes=EpisodeConfig(batch_size=64),
    training=TrainingConfig(epochs=15, patience=6, learning_rate=1e-2, weight_decay=0.1),
    members=tuple(TUNED[name] for name in ("bayesian-linear", "anil", "film")),
)

TUNED_IMPLICIT: dict[str, MetaTrainConfig] = {"maml": IMPLICIT_MAML}
"""How learners are trained on implicit feedback, if it differs from ratings."""


def training_of(algorithm: str, objective: Objective = "rating") -> MetaTrainConfig:
    """Return how a learner is trained on feedback of a kind.

    Raises:
        UserError: if there is no such learner.
    """
    tuned = TUNED.get(algorithm) or MetaTrainConfig(model=ModelConfig(algorithm=algorithm))
    return TUNED_IMPLICIT.get(algorithm, tuned) if objective == "implicit" else tuned
