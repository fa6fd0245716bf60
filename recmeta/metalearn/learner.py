"""What every meta-learner offers. An algorithm is one small file that says only what is special
about it."""

import dataclasses
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch

from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch

Params = dict[str, torch.Tensor]
"""Meta-parameters by name."""
UserState = dict[str, torch.Tensor]
"""What adaptation found, batched over users in dimension 0 of every tensor."""
Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predictions for R rows of B users, in units of the model."""

    mean_BR: torch.Tensor
    """What is predicted: the expected value, or of a rating the median where the learner asks for
    the least absolute error."""
    spread_BR: torch.Tensor | None = None
    """Standard deviation, where the learner has one."""
    utility_BR: torch.Tensor | None = None
    """What a user's items are ranked by, where that is not `mean_BR`: the expected value of a
    rating that is predicted by its median, whose steps the best items all share."""

    @property
    def ranked_by_BR(self) -> torch.Tensor:
        """What a user's items are ranked by."""
        return self.mean_BR if self.utility_BR is None else self.utility_BR


class MetaLearner(Protocol):
    """Learns how to learn a user.

    `adapt` and `predict` are pure: they leave `params` as they are, and a user's result does not
    depend on who else is in the batch.
    """

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters."""
        ...

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the outer gradient (or pseudo-gradient) by parameter name, and `loss` among
        metrics. The gradient of a large embedding table may be a sparse tensor of rows; a
        parameter that is not to be learned may have none.

        A batch's gradient and loss are the means of its parts', weighted by their tasks, whatever
        the parts and their order: what is drawn for a user or an item is drawn by its name
        (`recmeta.metalearn.numerics.named_draws`), what is drawn for the batch does not depend on
        who is in it.

        Args:
            generator: of the batch; each of its parts is given one in the same state.
        """
        ...

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the users' states; with empty support, the state of a user of whom nothing is
        known."""
        ...

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the same rows with the work on them that no user changes done already, or as they
        are; for `predict`, as long as `params` stay."""
        ...

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return predictions for items; `items.value_BR` is not read."""
        ...


@runtime_checkable
class CatalogueRanker(Protocol):
    """A learner that orders a catalogue for adapted users faster than it predicts every rating."""

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users as `ranked_by` reads them, with all done that does not depend on the
        items; to be done once for many items."""
        ...

    def ranked_by(self, params: Params, settled: UserState, items: Rows) -> torch.Tensor:
        """Return `predict(...).ranked_by_BR` for items from `prepare`, 1 for B."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A learner that knows what a user would be without a row, and need not adapt anew for each."""

    def ranked_without(self, params: Params, support: Support, items: Rows) -> torch.Tensor | None:
        """Return (B, 1 + S, R) `predict(...).ranked_by_BR` of each user's items: with all S rows of
        the support, then without each in turn (places of padding hold anything). None where
        users have to be adapted anew."""
        ...


@runtime_checkable
class Derives(Protocol):
    """A learner whose adaptation reads what follows from the parameters alone, and costs more than
    a user does."""

    def derived(self, params: Params) -> Params:
        """Return the tensors that `adapt` reads where they are among `params`, and makes itself
        where they are not."""
        ...


def derived(learner: MetaLearner, params: Params) -> Params:
    """Return what a learner derives from its parameters; nothing for most."""
    return learner.derived(params) if isinstance(learner, Derives) else {}


def with_derived(learner: MetaLearner, params: Params) -> Params:
    """Return the parameters with what follows from them: for `adapt`, `prepare` and `predict`, to
    be made once for many users, and anew where the parameters change."""
    return params | derived(learner, params)


@runtime_checkable
class HasPosterior(Protocol):
    """A learner whose users are Gaussians over the weights of a linear function of items: `adapt`
    gives its mean `weights` (B, W) and a `whitener` (B, W, W), the covariance being whitenerᵀ
    whitener."""

    def linear_parts(
        self, params: Params, items: Rows
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the weights act on: offsets (B, R), design (B, R, W) with value = offset +
        design · weights + noise, and the variance of that noise (B, R)."""
        ...


@runtime_checkable
class EstimatesFromExpected(Protocol):
    """A learner that predicts another number than the expected value, which it makes of that and
    of the spread: `mean_BR` of `utility_BR`."""

    def estimated(
        self, params: Params, expected_BR: torch.Tensor, spread_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return what is predicted of values with this expectation and this spread, (B, R)."""
        ...


@runtime_checkable
class HasSupportGradient(Protocol):
    """A learner that says how far a support pulls at a user's weights."""

    def support_gradient_norm(self, params: Params, support: Support) -> torch.Tensor:
        """Return (B,) the norm of the gradient of the support loss before adaptation."""
        ...


@runtime_checkable
class LearnsFromUpdates(Protocol):
    """A learner whose meta-gradient is made of what clients send, each out of its own task."""

    def update(
        self, params: Params, client: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, float]:
        """Return what a client sends, before it is clipped, and the loss that it began with."""
        ...

    def clipped(self, update: Params) -> Params:
        """Return an update that is no longer than it may be."""
        ...

    def aggregate(self, updates: Iterable[Params], generator: torch.Generator) -> Params:
        """Return the mean of the clients' clipped updates, with the noise of a round."""
        ...
