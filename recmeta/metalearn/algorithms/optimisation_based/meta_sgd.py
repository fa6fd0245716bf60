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
    """The number of gradient steps on the support: one, as published. Further steps share the
    rates."""
    rates_per: Literal["layer", "parameter"] = "parameter"
    """By definition every parameter has a rate; with `layer` this would be MAML with learned
    rates."""


LEARNER = MetaSGDConfig
