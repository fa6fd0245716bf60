"""The meta-learner LSTM: a learned optimiser of the last layer (Ravi, Larochelle: Optimization as a
model for few-shot learning, ICLR 2017, equations 2 to 4).

    θ_t = f_t ∘ θ_{t−1} − i_t ∘ g_t,   g_t = ∇ L(S_u; φ, θ_{t−1})
    f_t = σ(W_f · [g_t, L_t, θ_{t−1}, f_{t−1}] + b_f)
    i_t = σ(W_i · [g_t, L_t, θ_{t−1}, i_{t−1}] + b_i)

The weights θ are the cell state of an LSTM, which all coordinates share: its forget gate shrinks
them, its input gate is their learning rate, and both see the loss and its gradient. The initial
state is learned, too. Gradients and losses enter as logarithm and sign (Andrychowicz et al.,
NeurIPS 2016, appendix A), and the outer gradient treats them as constants, as the paper does.

Legend: B users, S support rows, R rows, N = H + 1 numbers of a user: H weights and a bias.
"""

import dataclasses
import math

import torch

from recmeta.metalearn.inner_loop.objectives import ObjectiveName, loss_of
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.dense import dense
from recmeta.metalearn.networks.embedding import some_hidden
from recmeta.metalearn.networks.row_features import EmbeddedRows, RowFeatures
from recmeta.metalearn.numerics.sparse_gradients import gradients_by
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch

USER, OWN = "user", "own"
FORGET, TAKE = "lstm.forget", "lstm.input"
NUM_INPUTS = 6
"""The inputs of a gate: two numbers of the gradient, two of the loss, the weight and the gate's
last value."""
FIRST_FORGET, FIRST_RATE = 0.999, 0.05
"""The gates' initial values: gradient descent that hardly forgets."""
LOG_RANGE = 10.0
"""Numbers below e to the minus this enter unchanged but for a factor: see `_log_and_sign`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaLSTMConfig(LearnerConfig):
    """The steps of the learned optimiser."""

    num_steps: int = 4
    """The number of steps on the support."""
    support_prior: float = 3.0
    """The loss of n support rows is multiplied by n / (n + support_prior)."""
    inner_objective: ObjectiveName | None = None
    """The loss of the support. If not set, it is `squared` for ratings and `bce` for implicit
    feedback."""
    outer_objective: ObjectiveName | None = None
    """The loss of the query. If not set, it is `absolute` for ratings and `bce` for implicit
    feedback."""
    hidden_share: float = 0.0
    """The share of batches whose items are read without their ids, as new items are (DropoutNet:
    Volkovs, Yu, Poutanen, NeurIPS 2017)."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; it must be at least 1.")
        if self.support_prior < 0:
            raise ValueError(f"support_prior is {self.support_prior}; it must not be negative.")

    def build(self, setting: Setting) -> "MetaLSTM":
        """Return the learner with these hyperparameters."""
        return MetaLSTM(self, setting)


class MetaLSTM:
    """A user is a last layer, which a learned optimiser writes."""

    def __init__(self, config: MetaLSTMConfig, setting: Setting) -> None:
        self.config = config
        self.features = RowFeatures(setting.network, setting.item_features)
        graded = setting.is_graded
        self._inner_loss = loss_of(config.inner_objective or ("squared" if graded else "bce"))
        self._outer_loss = loss_of(config.outer_objective or ("absolute" if graded else "bce"))

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh parameters: the network's, and gates that perform gradient descent."""
        params = self.features.network.init_params(generator)
        for name, share in ((FORGET, FIRST_FORGET), (TAKE, FIRST_RATE)):
            params[f"{name}.weight"] = 0.01 * torch.randn((1, NUM_INPUTS), generator=generator)
            params[f"{name}.bias"] = torch.full((1,), math.log(share / (1 - share)))
        return params

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the gradient of the mean query loss through the gates, and that loss.

        Args:
            generator: draws whether items are hidden.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        seen = some_hidden(self.features.item_features, self.config.hidden_share, generator)
        with torch.enable_grad():
            user_BF = self.features.users(leaves, batch.support.user, len(batch))
            support = self.features.embedded(leaves, batch.support.rows, seen)
            query = self.features.embedded(leaves, batch.query, seen)
            own_BN = self._learned(leaves, user_BF, support)
            output_BR = self._output(leaves, own_BN, user_BF, query)
            loss = self._outer_loss(output_BR, query.value_BR, query.mask_BR).mean()
        return gradients_by(loss, leaves), {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return each user's embedded features (B, F), and their last layer (B, N)."""
        user_BF = self.features.users(params, support.user, len(support.rows.mask_BR))
        embedded = self.features.embedded(params, support.rows)
        return {USER: user_BF, OWN: self._learned(params, user_BF, embedded)}

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items embedded."""
        return self.features.embedded(params, items)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the outputs of each user's own last layer."""
        embedded = self.features.embedded(params, items)
        return Prediction(self._output(params, state[OWN], state[USER], embedded))

    def _learned(
        self, params: Params, user_BF: torch.Tensor, support: EmbeddedRows
    ) -> torch.Tensor:
        """Return the users' last layers after the steps on their support, (B, N)."""
        weight_1H, bias_1 = params[self.features.weight_name], params[self.features.bias_name]
        own_BN = torch.cat([weight_1H[0], bias_1]).expand(len(user_BF), -1)
        count_B = support.mask_BR.sum(1).to(own_BN.dtype)
        confidence_B = count_B / (count_B + self.config.support_prior).clamp(min=1)
        with torch.no_grad():
            x_BSH = self.features.of(params, user_BF, support)
        forget_BN = torch.full_like(own_BN, FIRST_FORGET)
        take_BN = torch.full_like(own_BN, FIRST_RATE)
        for _ in range(self.config.num_steps):
            at_BN = own_BN.detach().requires_grad_()
            with torch.enable_grad():
                output_BS = self._outputs(at_BN, x_BSH, support)
                loss_B = self._inner_loss(output_BS, support.value_BR, support.mask_BR)
                loss_B = loss_B * confidence_B
                (slope_BN,) = torch.autograd.grad(loss_B.sum(), at_BN, materialize_grads=True)
            loss_B12 = _log_and_sign(loss_B.detach())[:, None].expand(-1, own_BN.shape[1], -1)
            input_BNX = torch.cat([_log_and_sign(slope_BN), loss_B12, own_BN[..., None]], -1)
            forget_BN = _gate(params, FORGET, input_BNX, forget_BN)
            take_BN = _gate(params, TAKE, input_BNX, take_BN)
            stepped_BN = forget_BN * own_BN - take_BN * slope_BN
            own_BN = torch.where(
                count_B[:, None] > 0, stepped_BN, own_BN
            )  # without support nothing changes
        return own_BN

    def _output(
        self, params: Params, own_BN: torch.Tensor, user_BF: torch.Tensor, rows: EmbeddedRows
    ) -> torch.Tensor:
        return self._outputs(own_BN, self.features.of(params, user_BF, rows), rows)

    def _outputs(self, own_BN: torch.Tensor, x_BRH: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Return (B, R) the outputs of the users' last layers."""
        z_BR = (x_BRH @ own_BN[:, :-1, None])[..., 0] + own_BN[:, -1:]
        return self.features.network.started(z_BR, rows.statistics_BRD)


def _gate(
    params: Params, name: str, input_BNX: torch.Tensor, last_BN: torch.Tensor
) -> torch.Tensor:
    """Return the gate's value for every coordinate, between 0 and 1."""
    joined = torch.cat([input_BNX, last_BN[..., None]], -1)
    return dense(params, name, joined)[..., 0].sigmoid()


def _log_and_sign(x: torch.Tensor) -> torch.Tensor:
    """Return (..., 2) numbers of any magnitude as numbers of about 1: where |x| ≥ e⁻ᵖ, log|x| / p
    and its sign; else -1 and eᵖ x, with p = `LOG_RANGE`."""
    least = math.exp(-LOG_RANGE)
    is_large = x.abs() >= least
    size = x.abs().clamp(min=least).log() / LOG_RANGE
    first = torch.where(is_large, size, -1.0)
    return torch.stack([first, torch.where(is_large, x.sign(), x / least)], -1)


LEARNER = MetaLSTMConfig
