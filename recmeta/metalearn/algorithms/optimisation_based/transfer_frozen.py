"""Frozen pre-trained features, and a last layer that is fitted to each new user (Tian, Wang,
Krishnan, Tenenbaum, Isola, ECCV 2020)."""

import dataclasses
from typing import Literal

from recmeta.metalearn.algorithms.optimisation_based.transfer_fine_tuned import FineTunedConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenConfig(FineTunedConfig):
    """The features stay as pre-training found them; the last layer is fitted to each new user."""

    adapt_layers: Literal["all", "last"] = "last"
    """By definition only the last layer; with `all` this would be fine-tuning."""


LEARNER = FrozenConfig
