"""ANIL: only the last layer adapts (Raghu, Raghu, Bengio, Vinyals, ICLR 2020)."""

import dataclasses
from typing import Literal

from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ANILConfig(MAMLConfig):
    """Almost no inner loop (Raghu, Raghu, Bengio, Vinyals, ICLR 2020): only the last layer adapts,
    on features that all users share."""

    adapt_layers: Literal["all", "last"] = "last"
    """By definition only the last layer; with `all` this would be MAML."""


LEARNER = ANILConfig
