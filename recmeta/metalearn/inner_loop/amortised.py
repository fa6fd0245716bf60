"""The base of learners that adapt by a forward pass over the support instead of gradient steps.

    surprise_s = value_s − expected_s                  deviation from the network's expectation
    state      = read({(token_s, surprise_s)})         the algorithm's first half
    output_r   = expected_r + decode(state, token_r)   its second

`expected` is the preference estimator's own output, from profile and item alone, and `token` a
hidden layer over the same features. An algorithm defines `read` and `decode`; without support its
prediction is what is expected of any user with the profile. Both halves are trained by one gradient
through them. (Amortised inference: Gordon et al., ICLR 2019; Garnelo et al., ICML 2018.)

Legend: B users, S support rows, R rows, U distinct items of a batch, F embedded features,
H width of a token, D item statistics.
"""

import abc
import dataclasses
from typing import Literal, Self

import torch
import torch.nn.functional as F

from recmeta.metalearn.heads.median import MedianOfLevels
from recmeta.metalearn.inner_loop.choice import inner_loop
from recmeta.metalearn.inner_loop.objectives import ObjectiveName, gaussian, loss_of
from recmeta.metalearn.inner_loop.steps import InnerSteps
from recmeta.metalearn.learner import Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.networks.dense import dense, init_dense
from recmeta.metalearn.networks.embedding import distinct, gather, some_hidden
from recmeta.metalearn.networks.network import EmbeddedItems
from recmeta.metalearn.numerics.sparse_gradients import gradients_by
from recmeta.metalearn.tensors.batch import NUM_STATISTICS, Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import Features as Encoded

USER = "user"
"""The embedded profile in a user's state, (B, F)."""
LOG_SPREAD_RANGE = (-3.0, 3.0)
"""The range of the logarithm of a spread, in units of the model."""
FIRST_STEP = 0.1
"""The gain of the layers that write into the output, so that training starts near the expected
values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AmortisedConfig(LearnerConfig):
    """The hyperparameters that these learners share."""

    width: int = 64
    """The width of a token and of a hidden layer."""
    hidden_share: float = 0.0
    """The share of batches whose items are read without their ids, as new items are (DropoutNet:
    Volkovs, Yu, Poutanen, NeurIPS 2017)."""
    estimate: Literal["median", "mean"] = "median"
    """What is predicted for a rating: the mean of the Gaussian, or its median on a scale of
    `num_levels` levels, which has the least absolute error and whose loss is added to the
    likelihood's. The choice has no effect on implicit feedback."""
    num_levels: int | None = None
    """The number of levels of that scale, evenly spaced over the range of values. If not set, it is
    the number of levels of the meta-training values; where these have no levels, the mean is
    predicted."""
    outer_objective: ObjectiveName | None = None
    """The loss of the query for implicit feedback; `bce` if not set. For ratings the loss is the
    Gaussian's."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}; it must be at least 1.")
        if not 0 <= self.hidden_share <= 1:
            raise ValueError(f"hidden_share is {self.hidden_share}; it must be between 0 and 1.")
        if self.num_levels is not None and self.num_levels < 2:
            raise ValueError(f"num_levels is {self.num_levels}; it must be at least 2.")

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same configuration with this number of levels, where it is not set."""
        return dataclasses.replace(self, num_levels=self.num_levels or num_levels)


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Rows as an algorithm reads them."""

    token_BRH: torch.Tensor
    """A hidden layer over the features of user, item and the item's past."""
    expected_BR: torch.Tensor
    """The network's expectation of the row's value; a logit for implicit feedback."""


@dataclasses.dataclass(frozen=True)
class Known(Tokens):
    """Rows whose values are known: a support or, in training, also a query."""

    user_BF: torch.Tensor
    """Embedded profiles."""
    value_BR: torch.Tensor
    """In units of the model."""
    surprise_BR: torch.Tensor
    """The value minus its expectation; 0 where padded."""
    mask_BR: torch.Tensor
    """bool, false where padded."""

    def average(self, row_BRX: torch.Tensor, prior_strength: float) -> torch.Tensor:
        """Return the users' means over their rows, (B, X), shrunk to 0 as if by this many more
        rows; 0 without any row."""
        mask_BR = self.mask_BR.to(row_BRX.dtype)
        total_BX = (row_BRX * mask_BR[..., None]).sum(1)
        return total_BX / (mask_BR.sum(1, keepdim=True) + prior_strength).clamp(min=1e-9)

    def joined(self, other: "Known") -> "Known":
        """Return these rows and others of the same users as one side."""
        both = {
            field.name: torch.cat([getattr(self, field.name), getattr(other, field.name)], 1)
            for field in dataclasses.fields(self)
        }
        return Known(**both | {"user_BF": self.user_BF})


@dataclasses.dataclass(frozen=True)
class TokenRows(Rows):
    """Rows for which `prepare` has done the work that no user changes."""

    embedded: EmbeddedItems
    """The network's tables, then the items' share of the tokens; (B, R, ·)."""


class AmortisedLearner(abc.ABC):
    """A preference estimator to whose output the support adds a correction."""

    def __init__(self, config: AmortisedConfig, setting: Setting) -> None:
        self.network = setting.network
        self.item_features = setting.item_features
        self.is_graded = setting.is_graded
        self.width = config.width
        self.hidden_share = config.hidden_share
        levels = config.num_levels if self.is_graded and config.estimate == "median" else None
        self.median = None if levels is None else MedianOfLevels(*setting.value_range, levels)
        objective: ObjectiveName = config.outer_objective or "bce"
        self.query_loss = loss_of(objective)
        self._absolute = loss_of("absolute")
        # Without steps, the inner loop is the plain network, in its fastest form.
        self._expectation = inner_loop(
            self.network,
            InnerSteps(
                num_steps=0,
                adapted_layers=(False,) * self.network.num_layers,
                learning_rate=0.0,
                second_order=False,
                support_prior=0.0,
                objective=objective,
            ),
        )

    # What an algorithm says ----------------------------------------------------------------------

    @abc.abstractmethod
    def init_own(self, generator: torch.Generator) -> Params:
        """Return the fresh parameters of `read` and `decode`."""

    @abc.abstractmethod
    def read(self, params: Params, known: Known) -> UserState:
        """Return the state that the algorithm reads from the users' supports."""

    @abc.abstractmethod
    def decode(
        self, params: Params, state: UserState, target: Tokens
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the correction to the expectation of each row, and the logarithm of the spread,
        (B, R) each."""

    def task_loss(
        self,
        params: Params,
        support: Known,
        query: Known,
        name_B: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return each task's loss (B,): here, that of its query.

        Args:
            name_B: the name of each user, by which random numbers are drawn.
            generator: for learners that draw random numbers.
        """
        state = self.read(params, support)
        return self.loss(params, self.decode(params, state, query), query)

    # The protocol --------------------------------------------------------------------------------

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters: the network's, the tokens' and the algorithm's own."""
        params = self.network.init_params(generator)
        for part, width in zip(("user", "item", "past"), self._part_widths, strict=True):
            params |= init_dense(f"token.{part}", width, self.width, generator)
        del params["token.item.bias"], params["token.past.bias"]  # one user is enough for all
        params |= self.init_own(generator)
        return params if self.median is None else params | self.median.init_params()

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the exact gradient of the tasks' mean loss, and that loss."""
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        features = some_hidden(self.item_features, self.hidden_share, generator)
        support, query = batch.support.rows, batch.query
        with torch.enable_grad():
            user_BF = self.network.embed_users(leaves, batch.support.user, len(batch))
            items = self._embed(leaves, features, [support.item_BR, query.item_BR])
            known = self._known(leaves, user_BF, items[0], support)
            target = self._known(leaves, user_BF, items[1], query)
            loss = self.task_loss(leaves, known, target, batch.name_B, generator).mean()
        return gradients_by(loss, leaves), {"loss": float(loss.detach())}

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the users' embedded profiles, and the state that the algorithm reads from the
        support."""
        user_BF = self.network.embed_users(params, support.user, len(support.rows.mask_BR))
        items = self._embed(params, self.item_features, [support.rows.item_BR])[0]
        known = self._known(params, user_BF, items, support.rows)
        return {USER: user_BF, **self.read(params, known)}

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items embedded, and the items' share of the tokens."""
        embedded = self._embed(params, self.item_features, [items.item_BR])[0]
        return TokenRows(**vars(items), embedded=embedded)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return predictions; those of ratings have the Gaussian's standard deviation."""
        prepared = items if isinstance(items, TokenRows) else self.prepare(params, items)
        assert isinstance(prepared, TokenRows)
        target = self._tokens(params, state[USER], prepared.embedded, items)
        shift_BR, log_spread_BR = self.decode(params, state, target)
        mean_BR = target.expected_BR + shift_BR
        if not self.is_graded:
            return Prediction(mean_BR)
        spread_BR = log_spread_BR.clamp(*LOG_SPREAD_RANGE).exp()
        return Prediction(self._estimate(params, mean_BR, spread_BR), spread_BR)

    # Shared halves -------------------------------------------------------------------------------

    def loss(
        self, params: Params, decoded: tuple[torch.Tensor, torch.Tensor], rows: Known
    ) -> torch.Tensor:
        """Return each task's mean loss over rows, (B,): for ratings, a Gaussian's negative
        log-likelihood and the absolute error of the median, if that is predicted; for implicit
        feedback, the loss of a logit."""
        shift_BR, log_spread_BR = decoded
        mean_BR, value_BR, mask_BR = rows.expected_BR + shift_BR, rows.value_BR, rows.mask_BR
        if not self.is_graded:
            return self.query_loss(mean_BR, value_BR, mask_BR)
        spread_BR = log_spread_BR.clamp(*LOG_SPREAD_RANGE).exp()
        loss_B = gaussian(mean_BR, spread_BR, value_BR, mask_BR)
        return loss_B + self.absolute_error(params, decoded, rows)

    def absolute_error(
        self, params: Params, decoded: tuple[torch.Tensor, torch.Tensor], rows: Known
    ) -> torch.Tensor:
        """Return each task's mean absolute error of the median, (B,), or 0 where the mean is
        predicted."""
        if self.median is None:
            return rows.value_BR.new_zeros(len(rows.value_BR))
        shift_BR, log_spread_BR = decoded
        spread_BR = log_spread_BR.clamp(*LOG_SPREAD_RANGE).exp()
        estimate_BR = self._estimate(params, rows.expected_BR + shift_BR, spread_BR)
        return self._absolute(estimate_BR, rows.value_BR, rows.mask_BR)

    def _estimate(
        self, params: Params, mean_BR: torch.Tensor, spread_BR: torch.Tensor
    ) -> torch.Tensor:
        return mean_BR if self.median is None else self.median.of(params, mean_BR, spread_BR)

    @property
    def _part_widths(self) -> tuple[int, int, int]:
        """The numbers of inputs of a token: of the user, of the item, of the item's past."""
        user_width, item_width, _ = self.network.feature_widths
        return user_width, item_width, NUM_STATISTICS

    def _embed(
        self, params: Params, features: Encoded, sides: list[torch.Tensor]
    ) -> list[EmbeddedItems]:
        """Return the items of each side of rows; each distinct item is embedded once."""
        item_U, places = distinct(sides, features)
        tables = self.network.embed_items(params, features, item_U).tables
        tables = [*tables, F.linear(tables[0], params["token.item.weight"])]
        return [EmbeddedItems([gather(t, place_BR) for t in tables]) for place_BR in places]

    def _tokens(
        self, params: Params, user_BF: torch.Tensor, items: EmbeddedItems, rows: Rows
    ) -> Tokens:
        *tables, item_BRH = items.tables
        state = {USER: user_BF}
        expected_BR = self._expectation.predict(params, state, EmbeddedItems(tables), rows)
        sum_BRH = dense(params, "token.user", user_BF)[:, None] + item_BRH
        if self.network.config.use_statistics:
            past_BRD = rows.statistics_BRD.to(sum_BRH.dtype)
            sum_BRH = sum_BRH + F.linear(past_BRD, params["token.past.weight"])
        return Tokens(torch.relu(sum_BRH), expected_BR)

    def _known(
        self, params: Params, user_BF: torch.Tensor, items: EmbeddedItems, rows: Rows
    ) -> Known:
        tokens = self._tokens(params, user_BF, items, rows)
        expected_BR = tokens.expected_BR if self.is_graded else tokens.expected_BR.sigmoid()
        value_BR = rows.value_BR.to(expected_BR.dtype)
        return Known(
            tokens.token_BRH,
            tokens.expected_BR,
            user_BF,
            value_BR,
            (value_BR - expected_BR) * rows.mask_BR,
            rows.mask_BR,
        )
