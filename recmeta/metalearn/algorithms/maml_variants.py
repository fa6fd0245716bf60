"""MAML under the names of those who changed one thing about it."""

import dataclasses
from typing import Literal

from recmeta.metalearn.algorithms.maml import MAMLConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMAMLConfig(MAMLConfig):
    """First-order MAML (Finn, Abbeel, Levine, ICML 2017, section 5.2): the outer gradient is taken
    at the adapted weights, as if the inner gradients did not depend on the initial ones. Learned
    rates get the gradient of what they do to the adapted weights."""

    second_order: bool = False
    """First-order, by definition; True would be MAML."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ANILConfig(MAMLConfig):
    """Almost no inner loop (Raghu, Raghu, Bengio, Vinyals, ICLR 2020): only the last layer adapts,
    on features that all users share."""

    adapt_layers: Literal["all", "last"] = "last"
    """The last, by definition; `all` would be MAML."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaSGDConfig(MAMLConfig):
    """Meta-SGD (Li, Zhou, Chen, Li, 2017, equation 2): a single step, whose direction and length
    are learned with the initial weights: θ_u = θ − α ∘ ∇L(S_u; θ), with a rate in α for every
    number of θ."""

    num_steps: int = 1
    """One, as published; more steps share the rates."""
    rates_per: Literal["layer", "parameter"] = "parameter"
    """Every parameter, by definition; `layer` would be MAML with learned rates."""
