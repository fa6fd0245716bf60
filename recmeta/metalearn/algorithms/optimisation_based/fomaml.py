"""First-order MAML (Finn, Abbeel, Levine, ICML 2017)."""

import dataclasses

from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMAMLConfig(MAMLConfig):
    """First-order MAML (Finn, Abbeel, Levine, ICML 2017, section 5.2): the outer gradient is taken
    at the adapted weights, as if the inner gradients did not depend on the initial ones. Learned
    rates get the gradient through their effect on the adapted weights."""

    second_order: bool = False
    """By definition false; if true, this would be MAML."""


LEARNER = FOMAMLConfig
