"""MAMO: gradient steps from initial weights that a memory gives each user (Dong, Yuan, Yao, Xu,
Zhu: MAMO: memory-augmented meta-optimization for cold-start recommendation, KDD 2020), read as
memory-augmented networks read theirs (Santoro et al.: Meta-learning with memory-augmented neural
networks, ICML 2016, equations 2 to 4).

    a_u  = softmax_k( β cos(p_u, M_k) )             read weights: similarity of profiles
    θ_u⁰ = θ + Σ_k a_uk V_k                         what the memory holds for these profiles
    θ_u  = θ_u⁰ − α ∇ L(support_u; φ, θ_u⁰)         num_steps times, as in MAML

p_u are the user's embedded attributes; M (the profile memory of Dong et al.) and V (their memory of
fast gradients) have a row per slot. They are meta-parameters: the outer gradient writes a user's
slots in proportion to a_u. Dong et al. write running means, task by task, which depend on the order
of tasks and on how a batch is divided. Their memory shifts the weights that embed the user's
attributes; here it shifts the weights that adapt. Their second memory, of matrices that mix a
user's and an item's embeddings, is left out.

Legend: B users, F embedded attributes, K slots.
"""

import dataclasses

import torch

from recmeta.metalearn.algorithms.optimisation_based.maml import MAML, MAMLConfig
from recmeta.metalearn.inner_loop.by_weights import WeightLoop
from recmeta.metalearn.learner import Params
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.networks.network import layer_of
from recmeta.metalearn.starts.beginning import Built

PROFILES = "memory.profiles"
"""Name of the memory of profiles (K, F), with which a user's attributes are compared."""
SHARPNESS = "memory.sharpness"
"""Name of the factor before the cosines, ()."""
SHIFTS = "memory.shifts."
"""Prefix of the names of the shifts that are added to the weights that adapt, (K, ...) each."""
LEAST = 1e-8
"""Added to squared lengths, because a user without attributes has length 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAMOConfig(MAMLConfig):
    """MAML from a start that a memory gives, read by the user's attributes (Dong et al., KDD
    2020)."""

    num_slots: int = 4
    """The number of slots of the memory."""
    sharpness: float = 4.0
    """The initial factor of the cosines, which is learned. With 0 all slots are initially read
    equally."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_slots < 1:
            raise ValueError(f"num_slots is {self.num_slots}; it must be at least 1.")
        if self.sharpness < 0:
            raise ValueError(f"sharpness is {self.sharpness}; it must not be negative.")

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return parameters for values v' = ratio · v + shift that predict as these do of v: the
        memory of the last layer is multiplied, too."""
        found = super().rescaled(built, params, ratio, shift)
        last = built.network.num_layers - 1
        of_last = [
            name
            for name in found
            if name.startswith(SHIFTS) and layer_of(name.removeprefix(SHIFTS)) == last
        ]
        return found | {name: found[name] * ratio for name in of_last}

    def _layers(self, config: MAMLConfig, setting: Setting) -> "MAMO":
        assert isinstance(config, MAMOConfig)
        return MAMO(config, setting)


def read_weights(params: Params, user_BF: torch.Tensor) -> torch.Tensor:
    """Return how much of each slot users read, (B, K); positive, with a sum of 1.

    Args:
        user_BF: the users' embedded attributes.
    """
    cosine_BK = _of_length_1(user_BF) @ _of_length_1(params[PROFILES]).T
    return torch.softmax(params[SHARPNESS] * cosine_BK, -1)


class MemoryLoop(WeightLoop):
    """Gradient steps from initial weights that are the user's own."""

    def start(self, params: Params, user_BF: torch.Tensor) -> Params:
        """Return, by name, the initial weights (B, ...) that the memory gives each user."""
        read_BK = read_weights(params, user_BF)
        return {
            name: params[name] + torch.einsum("bk,k...->b...", read_BK, params[SHIFTS + name])
            for name in self.adapted
        }


class MAMO(MAML):
    """A preference estimator with a memory of initial weights by profile."""

    def __init__(self, config: MAMOConfig, setting: Setting) -> None:
        super().__init__(
            config, setting.network, setting.item_features, setting.objective, setting.value_range
        )
        self.loop = MemoryLoop(self.network, self.steps)
        self.catalogue = None  # which would have all users share their weights
        self.num_slots, self.profile_width = config.num_slots, setting.network.feature_widths[0]
        self.sharpness = config.sharpness

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters: MAML's, random profiles, and shifts of 0, so that training
        begins as MAML's."""
        params = super().init_params(generator)
        params[PROFILES] = torch.randn((self.num_slots, self.profile_width), generator=generator)
        params[SHARPNESS] = torch.tensor(self.sharpness)
        for name in self.steps.adapted(self.network.decision_shapes):
            params[SHIFTS + name] = params[name].new_zeros((self.num_slots, *params[name].shape))
        return params


def _of_length_1(x: torch.Tensor) -> torch.Tensor:
    """Return vectors (..., F) divided by their lengths; 0 where they have none."""
    return x * (x.square().sum(-1, keepdim=True) + LEAST).rsqrt()


LEARNER = MAMOConfig
