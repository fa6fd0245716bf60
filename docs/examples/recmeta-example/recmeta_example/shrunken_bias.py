"""Ridge regression on one number: how generous a user is.

    e_i = w · s_i + c                        what anybody is expected to give item i
    b_u = Σ_support (r_ui − e_i) / (n + λ)   adaptation, in closed form
    r̂_ui = e_i + b_u

s_i is what was known of the item: its mean value and its popularity. w, c and λ are learned by
gradients of the query's squared error, through the closed form (as in Bertinetto, Henriques, Torr,
Vedaldi, ICLR 2019, where the regression has more than one number).

Legend: B users, R rows (padded), D item statistics.
"""

import dataclasses
import math

import torch

from recmeta.metalearn.inner_loop.objectives import loss_of
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.tensors.batch import NUM_STATISTICS, Rows, Support, TaskBatch

WEIGHT, INTERCEPT, LOG_SHRINKAGE = "item.weight", "item.intercept", "user.log_shrinkage"
BIAS = "bias"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShrunkenBiasConfig(LearnerConfig):
    """Where training begins."""

    objectives = ("rating",)
    first_shrinkage: float = 5.0
    """λ before training; above 0. It counts like that many ratings with a bias of 0."""

    def __post_init__(self) -> None:
        if not self.first_shrinkage > 0:
            raise ValueError(f"first_shrinkage is {self.first_shrinkage}; it must be above 0.")

    def build(self, setting: Setting) -> "ShrunkenBias":
        """Return the learner with these hyperparameters."""
        return ShrunkenBias(self)

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return the fresh parameters: there are no embeddings for a factorisation to fill."""
        return Start(fresh)


class ShrunkenBias:
    """Pure functions of the parameters."""

    def __init__(self, config: ShrunkenBiasConfig) -> None:
        self.config = config

    def init_params(self, generator: torch.Generator) -> Params:
        """Return parameters that expect an item's mean of everybody."""
        weight_D = torch.zeros(NUM_STATISTICS)
        weight_D[0] = 1.0
        shrinkage = torch.tensor([math.log(self.config.first_shrinkage)])
        return {WEIGHT: weight_D, INTERCEPT: torch.zeros(1), LOG_SHRINKAGE: shrinkage}

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the gradient of the mean over users of their queries' squared error, and that."""
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        state, query = self.adapt(leaves, batch.support), batch.query
        predicted_BR = self.predict(leaves, state, query).mean_BR
        loss = loss_of("squared")(predicted_BR, query.value_BR, query.mask_BR).mean()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True)), {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the users' biases, (B,): 0 with no support."""
        rows = support.rows
        left_BR = (rows.value_BR - _expected(params, rows)) * rows.mask_BR
        count_B = rows.mask_BR.sum(1)
        return {BIAS: left_BR.sum(1) / (count_B + params[LOG_SHRINKAGE].exp())}

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows as they are: there is no work that could be done before."""
        return items

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return what is expected of anybody, moved by the user's bias."""
        return Prediction(_expected(params, items) + state[BIAS][:, None])


def _expected(params: Params, rows: Rows) -> torch.Tensor:
    """Return (B, R) what anybody is expected to give."""
    past_BRD = rows.statistics_BRD.to(params[WEIGHT].dtype)
    return past_BRD @ params[WEIGHT] + params[INTERCEPT]
