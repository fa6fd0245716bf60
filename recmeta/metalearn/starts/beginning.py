"""The inputs and the result of a learner's start: see `LearnerConfig.start`.

Legend: I items, F factors, K folds of training users.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol

import torch

from recmeta.metalearn.factors.factorisation import BayesianFactorisation
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.embedding import EmbeddingNetwork
from recmeta.metalearn.tensors.batch import Catalogue
from recmeta.metalearn.tensors.encoding import Encoder
from recmeta.tasks.task_set import Objective, Ragged, Tasks

StartName = Literal["factors", "bayesian-factors", "champion", "random"]


class Built(Protocol):
    """The part of a model that starts read: everything but its learner. A `Model` is one."""

    @property
    def algorithm(self) -> str:
        """The learner's name, for messages."""
        ...

    @property
    def encoder(self) -> Encoder:
        """Its fields, and the scale of its values."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """Its items."""
        ...

    @property
    def network(self) -> EmbeddingNetwork:
        """The preference estimator, for learners that have one."""
        ...

    @property
    def objective(self) -> Objective:
        """Ratings, or implicit feedback."""
        ...

    @property
    def params(self) -> Params:
        """The learned parameters; empty before training."""
        ...


@dataclasses.dataclass(frozen=True)
class ItemFactors:
    """A matrix factorisation of ratings."""

    bias_I: torch.Tensor
    """The items' biases, in units of the value."""
    factor_IF: torch.Tensor
    """The items' vectors, in any scale."""


@dataclasses.dataclass(frozen=True)
class WeightedItemFactors:
    """A weighted matrix factorisation of implicit feedback."""

    item_IF: torch.Tensor
    config: WeightedALSConfig
    """The hyperparameters of the factorisation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartInputs:
    """Everything that a learner can begin with."""

    name: StartName
    """The configured start."""
    seed: int
    """The seed of a start's random numbers."""
    tasks: Tasks
    """The meta-training users; their support and query rows are the data."""
    tuned_factors: Callable[[], ItemFactors]
    """Returns the factorisation of ratings that the development users choose."""
    tuned_weighted_factors: Callable[[], WeightedItemFactors]
    """Returns the factorisation of implicit feedback that the development users choose."""
    last_layer_ridge: float | None = None
    """The penalty of the ridge regression that a network's last layer begins as, or None for no
    such regression."""
    source: Built | None = None
    """A model whose content this one starts from, or None."""
    keep_source: bool = False
    """Whether the rows of that content are kept unchanged."""
    continues: bool = False
    """Whether an earlier model's parameters replace these afterwards, wherever they fit."""
    factorised: dict[int, BayesianFactorisation] = dataclasses.field(default_factory=dict)
    """The Bayesian factorisations of these rows so far, by number of factors. A learner and its
    members, which read the same features, share them."""

    @property
    def has_factors(self) -> bool:
        """Whether a factorisation is configured, and there is data for it."""
        return self.name != "random" and len(self.tasks) > 0

    @property
    def rows(self) -> Ragged:
        """All rows of the meta-training users, per user."""
        return self.tasks.rows


@dataclasses.dataclass(frozen=True)
class Start:
    """The start of meta-training."""

    params: Params
    left_out_KIF: torch.Tensor | None = None
    """Factors that training receives beside the tasks, if the learner needs them: see
    `TaskBatch.left_out_KIF`."""
