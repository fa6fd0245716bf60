"""The algorithms by name. A new one is a file in this folder and a line here."""

import importlib
from collections.abc import Mapping
from typing import Any

from recmeta.config import parse
from recmeta.errors import UserError, did_you_mean
from recmeta.metalearn.algorithms.learner_config import LearnerConfig

ALGORITHMS: dict[str, str] = {
    "maml": "maml.MAMLConfig",
    "fomaml": "maml_variants.FOMAMLConfig",
    "anil": "maml_variants.ANILConfig",
    "meta-sgd": "maml_variants.MetaSGDConfig",
    "reptile": "reptile.ReptileConfig",
    "implicit-maml": "implicit_maml.ImplicitMAMLConfig",
    "meta-lstm": "meta_lstm.MetaLSTMConfig",
    "transfer-frozen": "transfer.FrozenConfig",
    "transfer-fine-tuned": "transfer.FineTunedConfig",
    "bayesian-linear": "bayesian_linear.BayesianLinearConfig",
    "weighted-ridge": "weighted_ridge.WeightedRidgeConfig",
    "matching": "matching.MatchingConfig",
    "prototypical": "prototypical.PrototypicalConfig",
    "film": "film.FiLMConfig",
    "transformer-np": "transformer_np.TransformerNPConfig",
    "snail": "snail.SNAILConfig",
    "latent-np": "latent_np.LatentNPConfig",
    "conditional-vae": "conditional_vae.ConditionalVAEConfig",
    "federated": "federated.FederatedConfig",
    "selector": "selector.SelectorConfig",
}
"""`module.Class` of the hyperparameters, in this package. They are imported when they are asked
for."""


def config_class(algorithm: str) -> type[LearnerConfig]:
    """Return the class of an algorithm's hyperparameters.

    Raises:
        UserError: for a name that is not in `ALGORITHMS`.
    """
    if algorithm not in ALGORITHMS:
        raise UserError(
            f"there is no learner {algorithm!r}.{did_you_mean(algorithm, list(ALGORITHMS))} "
            f"There are: {', '.join(ALGORITHMS)}."
        )
    _, _, name = ALGORITHMS[algorithm].partition(".")
    found: type[LearnerConfig] = getattr(importlib.import_module(module_of(algorithm)), name)
    return found


def module_of(algorithm: str) -> str:
    """Return the full name of the module that a known algorithm is in."""
    return f"{__package__}.{ALGORITHMS[algorithm].partition('.')[0]}"


def with_learner(data: Mapping[str, Any], algorithm: str, where: str) -> dict[str, Any]:
    """Return a configuration's values whose `learner` is parsed as its `algorithm`'s, for the
    `before_parsing` of a dataclass that has both.

    Args:
        algorithm: the one that stands where `data` names none.
        where: the path to `data` in the user's file, for messages.
    """
    values = dict(data)
    named, learner = values.get("algorithm", algorithm), values.get("learner")
    if isinstance(named, str) and isinstance(learner, Mapping):
        place = f"{where}.learner" if where else "learner"
        values["learner"] = parse(config_class(named), learner, place)
    return values
