"""What a learner's start is given, and what it gives: see `LearnerConfig.start`.

Legend: I items, F factors, K folds of training users.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol

import torch

from recmeta.metalearn.factors.weighted_als import WeightedALSConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.networks.embedding import EmbeddingNetwork
from recmeta.metalearn.tensors.batch import Catalogue
from recmeta.metalearn.tensors.encoding import Encoder
from recmeta.tasks.episodes import concatenate
from recmeta.tasks.task_set import Objective, Ragged, Tasks

StartName = Literal["factors", "bayesian-factors", "champion", "random"]


class Built(Protocol):
    """A model as starts read it: all of it but its learner. A `Model` is one."""

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
        """What it has learned; empty before."""
        ...


@dataclasses.dataclass(frozen=True)
class ItemFactors:
    """A matrix factorisation of ratings."""

    bias_I: torch.Tensor
    """In units of the value."""
    factor_IF: torch.Tensor
    """In any scale."""


@dataclasses.dataclass(frozen=True)
class WeightedItemFactors:
    """A weighted matrix factorisation of implicit feedback."""

    item_IF: torch.Tensor
    config: WeightedALSConfig
    """The hyperparameters that it was found with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartInputs:
    """What a learner can begin with."""

    name: StartName
    """The start that is asked for."""
    seed: int
    """Of whatever a start draws."""
    tasks: Tasks
    """The meta-training users; their support and query rows are the data."""
    tuned_factors: Callable[[], ItemFactors]
    """Finds the factorisation of ratings that the development users choose."""
    tuned_weighted_factors: Callable[[], WeightedItemFactors]
    """Finds the factorisation of implicit feedback that the development users choose."""
    last_layer_ridge: float | None = None
    """Weight of the ridge regression that a network's last layer begins as; if None, it is none."""
    source: Built | None = None
    """A model whose content this one starts from."""
    keep_source: bool = False
    """Whether the rows of that content stay as they are."""
    continues: bool = False
    """Whether an earlier model's parameters take the place of these afterwards, wherever they
    fit."""

    @property
    def has_factors(self) -> bool:
        """Whether a factorisation is asked for, and there is data for one."""
        return self.name != "random" and len(self.tasks) > 0

    @property
    def rows(self) -> Ragged:
        """All rows of the meta-training users, per user."""
        return concatenate(self.tasks.support, self.tasks.query)


@dataclasses.dataclass(frozen=True)
class Start:
    """Where meta-training begins."""

    params: Params
    left_out_KIF: torch.Tensor | None = None
    """What training is given beside the tasks, where the learner asks for it: see
    `TaskBatch.left_out_KIF`."""
