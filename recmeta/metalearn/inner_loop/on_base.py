"""Layers that adapt by gradient steps on top of a base learner: MAML begins where a closed form
ends.

    expected_ur = base_u(r) + f(r; φ, θ_u)
    θ_u = θ − α ∇_θ L(support_u − base_u; φ, θ)

The base adapts first and stays as it was trained. The layers' inner loss is that of the base's
residuals on the support; the outer loss is that of the joint prediction of the query, through the
base's median where it predicts one, and its gradient goes through the steps (Finn, Abbeel, Levine,
ICML 2017). With a Bayesian linear base this is inference in a hierarchical model in two parts: for
the linear part the maximum a posteriori estimate that MAML's steps approximate (Grant et al., ICLR
2018) is known in closed form, and the gradient steps learn what is not linear.

The layers' last weights and their rates are 0 at the start (`zeroed`), so that the learner begins
exactly as its base; while both are 0, the layers are not computed.

Legend: B users, S support rows (padded), R rows, V = 1 + S variants of a user: with all rows, and
without each; N = B · V.
"""

import dataclasses
import functools
from collections.abc import Callable

import torch

from recmeta.metalearn.inner_loop.steps import OWN_RATES, RATES
from recmeta.metalearn.learner import (
    EstimatesFromExpected,
    HasPosterior,
    HasSupportGradient,
    MetaLearner,
    Metrics,
    Params,
    Prediction,
    UserState,
    derived,
    leaves_out,
    ranks_catalogue,
)
from recmeta.metalearn.member_config import as_member, of_member, without_members
from recmeta.metalearn.networks.network import layer_of
from recmeta.metalearn.numerics.threads import one_thread
from recmeta.metalearn.tensors.batch import Places, Rows, Support, TaskBatch

HAS_OUTPUT = "derived.has_output"
"""Whether the layers have an output: not learned, but what follows from the parameters."""
LAYERS = "layers."
"""Prefix of the names of the layers' tensors in a user's state; the base's have none."""


@dataclasses.dataclass(frozen=True)
class RowsOfBoth(Rows):
    """Rows as the base and as the layers have prepared them."""

    of_base: Rows
    of_layers: Rows

    def placed(self, places: Places) -> "RowsOfBoth":
        """Return the rows in other places, as both have prepared them."""
        return RowsOfBoth(
            **vars(super().placed(places)),
            of_base=self.of_base.placed(places),
            of_layers=self.of_layers.placed(places),
        )


@dataclasses.dataclass(frozen=True)
class RowsOnBase(Rows):
    """Rows with the predictions of a base."""

    expected_BR: torch.Tensor
    """The base's expected values."""
    spread_BR: torch.Tensor
    """The base's standard deviations; 0 where it has none."""
    estimate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Returns the prediction for an expectation and a spread."""

    def predicted(self, output_BR: torch.Tensor) -> torch.Tensor:
        """Return the predictions where layers add this output to the expectation."""
        return self.estimate(self.expected_BR + output_BR, self.spread_BR)


def zeroed(params: Params) -> Params:
    """Return parameters of layers whose output is 0 for every user, before and after adaptation:
    the last layer and the rates are 0."""
    zeroed_params = dict(params)
    for name in _output_names(params):
        zeroed_params[name] = torch.zeros_like(params[name])
    return zeroed_params


def _output_names(params: Params) -> list[str]:
    """Return the names of the parameters that are 0 where the layers have no output."""
    layers = [layer for name in params if (layer := layer_of(name)) is not None]
    last = max(layers)
    return [
        name
        for name in params
        if name == RATES or name.startswith(OWN_RATES) or layer_of(name) == last
    ]


class OnBase:
    """A base learner, and layers that learn what it leaves."""

    def __init__(self, base: MetaLearner, layers: MetaLearner) -> None:
        """
        Args:
            layers: a learner with learned rates.
        """
        self.base = base
        self.layers = layers

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters of both, the layers' without output."""
        layers = zeroed(self.layers.init_params(generator))
        return layers | as_member(0, self.base.init_params(generator))

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the layers' gradient of the query loss, and that loss; the base has no
        gradient."""
        own = without_members(params)
        return self.layers.meta_gradient(own, self._on_base(params, batch), generator)

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return the base's state and, where the layers have an output, theirs."""
        base = of_member(0, params)
        of_base, of_layers = _sides(support.rows)
        state = self.base.adapt(base, Support(support.user, of_base))
        if not _has_output(params):
            return state
        residual = self._residual(base, state, of_base, of_layers)
        adapted = self.layers.adapt(without_members(params), Support(support.user, residual))
        return state | {LAYERS + name: t for name, t in adapted.items()}

    def derived(self, params: Params) -> Params:
        """Return what the base derives, and whether the layers have an output: to look through
        their parameters takes a tenth of a request."""
        found = as_member(0, derived(self.base, of_member(0, params)))
        return found | {HAS_OUTPUT: torch.tensor(_has_output(params))}

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows as both prepare them."""
        of_base = self.base.prepare(of_member(0, params), items)
        if not _has_output(params):
            return of_base
        of_layers = self.layers.prepare(without_members(params), items)
        return RowsOfBoth(**vars(items), of_base=of_base, of_layers=of_layers)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the base's predictions plus the layers' outputs; the spread is the base's."""
        of_base, of_layers = _sides(items)
        base = of_member(0, params)
        predicted = self.base.predict(base, state, of_base)
        if not _has_output(params):
            return predicted
        own = without_members(params)
        added_BR = self.layers.predict(own, _layers_state(state), of_layers).mean_BR
        if predicted.utility_BR is None:
            return Prediction(predicted.mean_BR + added_BR, predicted.spread_BR)
        expected_BR = predicted.utility_BR + added_BR
        predicted_BR = self._estimate(base, predicted)(expected_BR, _spread(predicted))
        return Prediction(predicted_BR, predicted.spread_BR, expected_BR)

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users as `ranked_by` reads them."""
        settled = state
        if ranks_catalogue(self.base):
            own = {n: t for n, t in state.items() if not n.startswith(LAYERS)}
            settled = self.base.settle(of_member(0, params), own)
        if not _has_output(params):
            return settled
        adapted = _layers_state(state)
        if ranks_catalogue(self.layers):
            adapted = self.layers.settle(without_members(params), adapted)
        return settled | {LAYERS + name: t for name, t in adapted.items()}

    def ranked_by(self, params: Params, settled: UserState, items: Rows) -> torch.Tensor:
        """Return the values by which users' items are ranked, the sum of both."""
        of_base, of_layers = _sides(items)
        ranked_BR = _ranked_by(self.base, of_member(0, params), settled, of_base)
        if not _has_output(params):
            return ranked_BR
        adapted = _layers_state(settled)
        return ranked_BR + _ranked_by(self.layers, without_members(params), adapted, of_layers)

    def ranked_without(self, params: Params, support: Support, items: Rows) -> torch.Tensor | None:
        """Return the base's values without each row plus the outputs of the layers adapted to the
        residuals that it leaves then, or None where the base cannot leave rows out."""
        if not leaves_out(self.base):
            return None
        base = of_member(0, params)
        (of_base, of_layers), (target, target_of_layers) = _sides(support.rows), _sides(items)
        ranked_BVR = self.base.ranked_without(base, Support(support.user, of_base), target)
        if ranked_BVR is None or not _has_output(params):
            return ranked_BVR
        known_BVS = self.base.ranked_without(base, Support(support.user, of_base), of_base)
        assert known_BVS is not None, "it leaves rows out for any items"
        num_variants = known_BVS.shape[1]
        rows = _of_variants(of_layers, num_variants)
        left_VS = ~torch.eye(num_variants, dtype=torch.bool, device=known_BVS.device)[:, 1:]
        mask_BVS = of_layers.mask_BR[:, None] & left_VS
        rows = dataclasses.replace(
            rows,
            value_BR=rows.value_BR - known_BVS.flatten(0, 1),
            mask_BR=mask_BVS.flatten(0, 1),
        )
        own = without_members(params)
        user = {n: t.repeat_interleave(num_variants, 0) for n, t in support.user.items()}
        state = self.layers.adapt(own, Support(user, rows))
        variants = _of_variants(target_of_layers, num_variants)
        added_NR = self.layers.predict(own, state, variants).ranked_by_BR
        return ranked_BVR + added_NR.view_as(ranked_BVR)

    def support_gradient_norm(self, params: Params, support: Support) -> torch.Tensor:
        """Return (B,) the norm of the support's gradient at the base's weights, or at the layers'
        where the base has none."""
        if isinstance(self.base, HasSupportGradient):
            return self.base.support_gradient_norm(of_member(0, params), support)
        assert isinstance(self.layers, HasSupportGradient)
        return self.layers.support_gradient_norm(without_members(params), support)

    def _on_base(self, params: Params, batch: TaskBatch) -> TaskBatch:
        """Return the tasks as the layers see them: residuals in the support, the base's predictions
        in the query."""
        base, query = of_member(0, params), batch.query
        with torch.no_grad(), one_thread(query.mask_BR.device.type == "cpu"):
            known = batch.support.rows
            of_base = self.base.prepare(base, known)  # adapting and predicting read it
            state = self.base.adapt(base, Support(batch.support.user, of_base))
            support = Support(batch.support.user, self._residual(base, state, of_base, known))
            predicted = self.base.predict(base, state, query)
        on_base = RowsOnBase(
            **vars(query),
            expected_BR=predicted.ranked_by_BR,
            spread_BR=_spread(predicted),
            estimate=self._estimate(base, predicted),
        )
        return dataclasses.replace(batch, support=support, query=on_base)

    def _residual(self, base: Params, state: UserState, of_base: Rows, of_layers: Rows) -> Rows:
        """Return rows with the base's residuals as their values.

        On a CPU they are computed with one thread: a user's products are small, and the way in
        which several threads share a sum would decide its last bits.
        """
        with one_thread(of_base.mask_BR.device.type == "cpu"):
            expected_BR = self.base.predict(base, state, of_base).ranked_by_BR
        return dataclasses.replace(of_layers, value_BR=of_layers.value_BR - expected_BR)

    def _estimate(
        self, base: Params, predicted: Prediction
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return the function from an expectation and a spread to the base's prediction.

        Args:
            predicted: some prediction of the base.
        """
        if predicted.utility_BR is None:
            return lambda expected_BR, spread_BR: expected_BR
        assert isinstance(self.base, EstimatesFromExpected), "only such a learner has a utility"
        return functools.partial(self.base.estimated, base)


class OnPosterior(OnBase):
    """Layers on a base whose users are Gaussians: see `HasPosterior`."""

    def linear_parts(
        self, params: Params, items: Rows
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the base's weights act on, without the layers' outputs."""
        assert isinstance(self.base, HasPosterior)
        return self.base.linear_parts(of_member(0, params), _sides(items)[0])


def on_base(base: MetaLearner, layers: MetaLearner) -> OnBase:
    """Return layers on a base, with the base's posterior if it has one."""
    return OnPosterior(base, layers) if isinstance(base, HasPosterior) else OnBase(base, layers)


def _has_output(params: Params) -> bool:
    """Return whether the layers have an output for some user."""
    if HAS_OUTPUT in params:
        return bool(params[HAS_OUTPUT])
    return any(bool(params[name].any()) for name in _output_names(without_members(params)))


def _sides(rows: Rows) -> tuple[Rows, Rows]:
    """Return rows as the base and as the layers read them."""
    if isinstance(rows, RowsOfBoth):
        return rows.of_base, rows.of_layers
    return rows, rows


def _of_variants(rows: Rows, num_variants: int) -> Rows:
    """Return each user's rows this many times, without the prepared parts."""
    plain = (rows.item_BR, rows.statistics_BRD, rows.value_BR, rows.mask_BR)
    return Rows(*(t.repeat_interleave(num_variants, 0) for t in plain))


def _spread(predicted: Prediction) -> torch.Tensor:
    return (
        torch.zeros_like(predicted.mean_BR) if predicted.spread_BR is None else predicted.spread_BR
    )


def _layers_state(state: UserState) -> UserState:
    return {n.removeprefix(LAYERS): t for n, t in state.items() if n.startswith(LAYERS)}


def _ranked_by(
    learner: MetaLearner, params: Params, settled: UserState, items: Rows
) -> torch.Tensor:
    if ranks_catalogue(learner):
        return learner.ranked_by(params, settled, items)
    return learner.predict(params, settled, items).ranked_by_BR
