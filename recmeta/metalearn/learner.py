"""The interface of a meta-learner. An algorithm is one small file with only what is special to
it."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Protocol, TypeGuard, runtime_checkable

import torch

from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch

Params = dict[str, torch.Tensor]
"""Meta-parameters by name."""
UserState = dict[str, torch.Tensor]
"""The result of adaptation, batched over users in dimension 0 of every tensor."""
Metrics = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predictions for R rows of B users, in units of the model."""

    mean_BR: torch.Tensor
    """The prediction: the expected value, or the median of a rating where the learner minimises the
    absolute error."""
    spread_BR: torch.Tensor | None = None
    """The standard deviation, or None if the learner has none."""
    utility_BR: torch.Tensor | None = None
    """The values by which a user's items are ranked, if these are not `mean_BR`: the expected
    values of ratings that are predicted by their medians, which the best items all share."""

    taken_BR: torch.Tensor | None = None
    """Log-odds that the user takes the items next, up to a constant of each user, where a learner
    of ratings says them, too: what lists are ordered by in place of the ratings."""

    @property
    def ranked_by_BR(self) -> torch.Tensor:
        """The values by which a user's items are ranked."""
        return self.mean_BR if self.utility_BR is None else self.utility_BR

    @property
    def listed_by_BR(self) -> torch.Tensor:
        """What lists out of the catalogue are ordered by."""
        return self.ranked_by_BR if self.taken_BR is None else self.taken_BR


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
        metrics. The gradient of a large embedding table may be a sparse tensor of rows; a parameter
        that is not learned may have no gradient.

        A batch's gradient and loss are the means of its parts', weighted by their tasks, whatever
        the parts and their order: random numbers for a user or an item are drawn by its name
        (`recmeta.metalearn.numerics.named_draws`), and those for the batch do not depend on who is
        in it.

        Args:
            generator: the batch's; each of its parts is given a generator in the same state.
        """
        ...

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the users' states. An empty support gives the state of a user without any known
        interaction."""
        ...

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with the work done that no user changes, or unchanged. The result is for
        `predict` with the same `params`."""
        ...

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return predictions for items; `items.value_BR` is not read."""
        ...


@runtime_checkable
class CatalogueRanker(Protocol):
    """A learner that orders a catalogue for adapted users faster than it predicts every rating."""

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users as `ranked_by` reads them, with all work done that does not depend on
        the items. Call it once for many items."""
        ...

    def ranked_by(self, params: Params, settled: UserState, items: Rows) -> torch.Tensor:
        """Return `predict(...).listed_by_BR` for items from `prepare`, 1 for B."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A learner that can leave single rows out of a user's support without adapting again for
    each."""

    def ranked_without(self, params: Params, support: Support, items: Rows) -> torch.Tensor | None:
        """Return (B, 1 + S, R) `predict(...).ranked_by_BR` of each user's items: with all S rows of
        the support, then without each row in turn (variants without a row of padding hold arbitrary
        numbers). Return None where users have to be adapted again."""
        ...


@functools.cache
def _fits(kind: type, protocol: type) -> bool:
    """Return whether a class has a protocol's methods. `isinstance` looks for them anew each time,
    which takes some per cent of a request."""
    return issubclass(kind, protocol)


def ranks_catalogue(learner: MetaLearner) -> TypeGuard[CatalogueRanker]:
    """Return whether a learner is a `CatalogueRanker`."""
    return _fits(type(learner), CatalogueRanker)


def leaves_out(learner: MetaLearner) -> TypeGuard[LeavesOut]:
    """Return whether a learner is a `LeavesOut`."""
    return _fits(type(learner), LeavesOut)


@runtime_checkable
class Derives(Protocol):
    """A learner whose adaptation reads tensors that follow from the parameters alone, and that cost
    more than adapting a user does."""

    def derived(self, params: Params) -> Params:
        """Return the tensors that `adapt` reads if they are among `params`, and computes itself
        otherwise."""
        ...


def derived(learner: MetaLearner, params: Params) -> Params:
    """Return the tensors that a learner derives from its parameters; most learners have none."""
    return learner.derived(params) if isinstance(learner, Derives) else {}


def with_derived(learner: MetaLearner, params: Params) -> Params:
    """Return the parameters with the tensors derived from them, for `adapt`, `prepare` and
    `predict`. Call it once for many users, and again when the parameters change."""
    return params | derived(learner, params)


@runtime_checkable
class HasPosterior(Protocol):
    """A learner whose users are Gaussians over the weights of a linear function of items: `adapt`
    returns the mean, `weights` (B, W), and a `whitener` (B, W, W); the covariance is whitenerᵀ
    whitener."""

    def linear_parts(
        self, params: Params, items: Rows
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the weights act on: offsets (B, R), design (B, R, W) with value = offset +
        design · weights + noise, and the variance of that noise (B, R)."""
        ...


@runtime_checkable
class EstimatesFromExpected(Protocol):
    """A learner whose prediction `mean_BR` is not the expected value `utility_BR`, but is computed
    from it and the spread."""

    def estimated(
        self, params: Params, expected_BR: torch.Tensor, spread_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return the predictions for values with these expectations and spreads, (B, R)."""
        ...


@runtime_checkable
class HasSupportGradient(Protocol):
    """A learner that knows the gradient of a support at a user's weights."""

    def support_gradient_norm(self, params: Params, support: Support) -> torch.Tensor:
        """Return (B,) the norm of the gradient of the support loss before adaptation."""
        ...


@runtime_checkable
class LearnsFromUpdates(Protocol):
    """A learner whose meta-gradient is computed from updates, which clients compute from their own
    tasks."""

    def update(
        self, params: Params, client: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, float]:
        """Return the update that a client sends, before clipping, and its initial loss."""
        ...

    def clipped(self, update: Params) -> Params:
        """Return the update, shortened where its norm exceeds the limit."""
        ...

    def aggregate(self, updates: Iterable[Params], generator: torch.Generator) -> Params:
        """Return the mean of the clients' clipped updates, with the noise of a round."""
        ...
