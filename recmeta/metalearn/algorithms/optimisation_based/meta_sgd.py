"""Meta-SGD: a learned rate for every number that adapts (Li, Zhou, Chen, Li, 2017)."""

import dataclasses
from typing import Literal

from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaSGDConfig(MAMLConfig):
    """Meta-SGD (Li, Zhou, Chen, Li, 2017, equation 2): a single step, whose direction and length
    are learned with the initial weights: θ_u = θ − α ∘ ∇L(S_u; θ), with a rate in α for every
    number of θ."""

    num_steps: int = 1
    """One, as published; more steps share the rates."""
    rates_per: Literal["layer", "parameter"] = "parameter"
    """Every parameter, by definition; `layer` would be MAML with learned rates."""


LEARNER = MetaSGDConfig
