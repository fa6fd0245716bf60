"""MAML on the decision layers (Finn, Abbeel, Levine, ICML 2017), as MeLU uses it.

    θ_u = θ − α ∇_θ L(support_u; φ, θ)             decision layers θ only, num_steps times
    (φ, θ) ← (φ, θ) − β ∇ Σ_u L(query_u; φ, θ_u)   embeddings φ and decision layers θ

(Lee et al., KDD 2019, algorithm 1). The gradient of the second line goes through the first (second
order) unless `second_order` is false. Rates are learned, too: one per step and layer (Antoniou,
Edwards, Storkey: How to train your MAML, ICLR 2019), or one per parameter (Meta-SGD, Li et al.,
2017).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Self

import torch

from recmeta.metalearn.heads.median import MedianOfLevels
from recmeta.metalearn.inner_loop.by_pairs import PairLoop
from recmeta.metalearn.inner_loop.by_weights import WeightLoop
from recmeta.metalearn.inner_loop.choice import inner_loop
from recmeta.metalearn.inner_loop.gradient_norm import gradient_norm
from recmeta.metalearn.inner_loop.objectives import ObjectiveName, loss_of
from recmeta.metalearn.inner_loop.on_base import RowsOnBase, on_base, zeroed
from recmeta.metalearn.inner_loop.over_catalogue import CatalogueItems, CatalogueLoop
from recmeta.metalearn.inner_loop.steps import RATES, InnerLoop, InnerSteps, own_rate
from recmeta.metalearn.learner import MetaLearner, Metrics, Params, Prediction, UserState
from recmeta.metalearn.learner_config import LearnerConfig, Setting
from recmeta.metalearn.member_config import Member, without_members
from recmeta.metalearn.networks.embedding import distinct, gather, some_hidden
from recmeta.metalearn.networks.network import EmbeddedItems, Network
from recmeta.metalearn.numerics.sparse_gradients import no_gradient
from recmeta.metalearn.numerics.threads import in_turn
from recmeta.metalearn.starts.beginning import Built, Start, StartInputs
from recmeta.metalearn.starts.of_networks import rescale_last_layer, start_embeddings
from recmeta.metalearn.tensors.batch import Places, Rows, Support, TaskBatch
from recmeta.metalearn.tensors.encoding import Features as Encoded
from recmeta.metalearn.tensors.grouping import Group, groups_by_length
from recmeta.tasks.task_set import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAMLConfig(LearnerConfig):
    """The inner loop and the losses."""

    num_steps: int = 3
    """The number of gradient steps on the support."""
    inner_learning_rate: float = 0.1
    """The rate of an inner step, or its initial value where rates are learned."""
    learn_rates: bool = True
    """Whether the rates are meta-learned."""
    rates_per: Literal["layer", "parameter"] = "layer"
    """How many rates are learned: one per step and layer, or one per adapted parameter, shared by
    all steps (Meta-SGD), which may become negative. Rates per parameter need weights for every
    user, which takes longer."""
    second_order: bool = True
    """Whether the outer gradient goes through the inner steps; if false, this is first-order
    MAML."""
    adapt_layers: Literal["all", "last"] = "all"
    """Which decision layers adapt: all (MAML), or the last alone (ANIL, Raghu et al., ICLR
    2020)."""
    support_prior: float = 3.0
    """The inner loss of n support rows is their sum divided by n plus this number, so that one row
    moves a user less than twenty rows do, as in a shrunk mean. With 0 it is the plain mean of
    MeLU."""
    inner_objective: ObjectiveName | None = None
    """The loss of the inner steps, in units of the model. If not set, it is `squared` for ratings
    and `bce` for implicit feedback."""
    outer_objective: ObjectiveName | None = None
    """The loss of the query, in units of the model. If not set, it is `absolute` for ratings, which
    is what MAE measures, and `bce` for implicit feedback."""
    hidden_share: float = 0.0
    """The share of batches whose items are read without their ids, as new items are (DropoutNet:
    Volkovs, Yu, Poutanen, NeurIPS 2017)."""
    estimate: Literal["median", "mean"] = "mean"
    """What is predicted for a rating: the network's output, which the inner steps fit (`mean`), or
    the corresponding median on a scale of `num_levels` levels, which has the least absolute error
    and enters the outer loss."""
    num_levels: int | None = None
    """The number of levels of that scale, evenly spaced over the range of values. If not set, it is
    the number of levels of the meta-training values; where these have no levels, the mean is
    predicted."""
    base: Member | None = None
    """A learner that adapts first. The layers learn the remainder of each value, and their initial
    output is 0. The base decides whether predictions are medians, whatever `estimate` is. If not
    set, the layers predict alone. `train.members` says how the base is trained."""

    def __post_init__(self) -> None:
        if self.base is not None and not self.learn_rates:
            raise ValueError(
                "learn_rates is false: on top of a base the rates begin at 0 and are learned."
            )
        if self.num_levels is not None and self.num_levels < 2:
            raise ValueError(f"num_levels is {self.num_levels}; it must be at least 2.")
        if not 0 <= self.hidden_share <= 1:
            raise ValueError(f"hidden_share is {self.hidden_share}; it must be between 0 and 1.")
        if self.num_steps < 0:
            raise ValueError(f"num_steps is {self.num_steps}; it must not be negative.")
        if self.inner_learning_rate <= 0:
            raise ValueError(
                f"inner_learning_rate is {self.inner_learning_rate}; it must be positive."
            )

    @property
    def members(self) -> tuple[Member, ...]:
        """The base, if there is one."""
        return () if self.base is None else (self.base,)

    @property
    def begins_trained(self) -> bool:
        """Whether there is a base, on which the layers begin with an output of 0."""
        return self.base is not None

    def with_members(self, members: Sequence[Member]) -> Self:
        """Return the same configuration on this base, or on none."""
        if len(members) > 1:
            raise ValueError(f"{len(members)} members are given: one is the base of the layers.")
        return dataclasses.replace(self, base=members[0] if members else None)

    def build(self, setting: Setting) -> MetaLearner:
        """Return the learner with these hyperparameters."""
        if self.base is None:
            return self._layers(self, setting)
        return on_base(self.base.build(setting), self._layers(self._of_residuals(setting), setting))

    def start(self, built: Built, fresh: Params, inputs: StartInputs) -> Start:
        """Return parameters whose item embeddings are filled from the configured factorisation. On
        a base, the layers begin with an output of 0."""
        started = start_embeddings(built, without_members(fresh), inputs)
        if self.base is None:
            return Start(started)
        members = {name: p for name, p in fresh.items() if name not in started}
        return Start(zeroed(started) | members)

    def rescaled(self, built: Built, params: Params, ratio: float, shift: float) -> Params:
        """Return parameters for values v' = ratio · v + shift that predict as these do of v. On a
        base, the layers learn residuals, which do not shift."""
        shift_of_layers = shift if self.base is None else 0.0
        return rescale_last_layer(built, params, ratio, shift_of_layers)

    def with_levels(self, num_levels: int | None, top_share: float = 0.0) -> Self:
        """Return the same configuration, and the same base, with this number of levels where it is
        not set."""
        base = None if self.base is None else self.base.with_levels(num_levels, top_share)
        return dataclasses.replace(self, num_levels=self.num_levels or num_levels, base=base)

    def _layers(self, config: "MAMLConfig", setting: Setting) -> "MAML":
        return MAML(
            config, setting.network, setting.item_features, setting.objective, setting.value_range
        )

    def _of_residuals(self, setting: Setting) -> "MAMLConfig":
        """Return the hyperparameters of layers that learn what a base leaves: numbers around 0,
        also of implicit feedback."""
        outer: ObjectiveName = "absolute" if setting.is_graded else "squared"
        return dataclasses.replace(
            self,
            estimate="mean",
            inner_objective=self.inner_objective or "squared",
            outer_objective=self.outer_objective or outer,
        )


@dataclasses.dataclass(frozen=True)
class PreparedRows(Rows):
    """Rows for which `prepare` has done the work that no user changes."""

    embedded: EmbeddedItems
    catalogue: CatalogueItems | None
    """The catalogue's items, where all users share the rows and the inner loop is a `PairLoop`;
    otherwise None."""

    def placed(self, places: Places) -> "PreparedRows":
        """Return the rows in other places, with their items embedded."""
        tables = [gather(table[0], places.place_BR) for table in self.embedded.tables]
        return PreparedRows(
            **vars(super().placed(places)), embedded=EmbeddedItems(tables), catalogue=None
        )


class MAML:
    """A preference estimator whose decision layers adapt to each user by gradient steps."""

    def __init__(
        self,
        config: MAMLConfig,
        network: Network,
        item_features: Encoded,
        objective: Objective,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """
        Args:
            value_range: lowest and highest value, in units of the model, for the median.
        """
        self.config = config
        self.network = network
        self.item_features = item_features
        self.objective: Objective = objective
        self.value_range = value_range
        graded = objective == "rating"
        self.median = (
            MedianOfLevels(*value_range, config.num_levels)
            if graded and config.estimate == "median" and config.num_levels is not None
            else None
        )
        last = network.num_layers - 1
        self.steps = InnerSteps(
            num_steps=config.num_steps,
            adapted_layers=tuple(
                config.adapt_layers == "all" or layer == last for layer in range(last + 1)
            ),
            learning_rate=config.inner_learning_rate,
            second_order=config.second_order,
            support_prior=config.support_prior,
            objective=config.inner_objective or ("squared" if graded else "bce"),
        )
        self.has_own_rates = config.learn_rates and config.rates_per == "parameter"
        if self.has_own_rates:
            self.loop: InnerLoop = WeightLoop(network, self.steps)
        else:
            self.loop = inner_loop(network, self.steps)
        self.catalogue: CatalogueLoop | None = None
        if isinstance(self.loop, PairLoop):
            self.catalogue = CatalogueLoop(self.loop.network)
        self._outer_loss = loss_of(config.outer_objective or ("absolute" if graded else "bce"))

    def init_params(self, generator: torch.Generator) -> Params:
        """Return fresh meta-parameters: the network's, and inner rates where they are learned."""
        params = self.network.init_params(generator)
        if self.has_own_rates:
            for name in self.steps.adapted(self.network.decision_shapes):
                rate = torch.full_like(params[name], self.config.inner_learning_rate)
                params[own_rate(name)] = rate
        elif self.config.learn_rates:
            shape = (self.config.num_steps, self.network.num_layers)
            params[RATES] = torch.full(shape, self.config.inner_learning_rate)
        if self.median is not None:
            params |= self.median.init_params()
        return params

    def meta_gradient(
        self, params: Params, batch: TaskBatch, generator: torch.Generator
    ) -> tuple[Params, Metrics]:
        """Return the exact gradient of the mean query loss, and that loss.

        Work that users or rows share is done once: embedding, and the features' half of the first
        layer for each distinct item. The decision layers run on groups of users with supports of
        similar length.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        groups = groups_by_length(batch, self.loop.least_rows)
        sides = [rows.item_BR for group in groups for rows in (group.support, group.query)]
        item_U, places = distinct(sides, self.item_features)
        features = some_hidden(self.item_features, self.config.hidden_share, generator)
        with torch.enable_grad():
            user_BF = self.network.embed_users(leaves, batch.support.user, len(batch))
            items = self.network.embed_items(leaves, features, item_U)
        shared = [user_BF, *items.tables]
        fixed = [t.detach() for t in shared]
        layers = {name: p for name, p in leaves.items() if not name.startswith("embedding.")}

        def work(n: int) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
            return self._of_group(layers, fixed, groups[n], (places[2 * n], places[2 * n + 1]))

        loss = torch.zeros((), dtype=torch.float64, device=user_BF.device)
        sums = [torch.zeros_like(t) for t in [*fixed, *layers.values()]]
        device = user_BF.device
        # Groups are summed in order, which gives the same bits for any number of threads.
        for n, (share, by_group) in enumerate(in_turn(work, range(len(groups)), device)):
            loss += share
            row_of = [groups[n].user_B, *places[2 * n : 2 * n + 2]]
            _add_group(sums, len(items.tables), row_of, by_group)
        learned = [n for n, t in enumerate(shared) if t.requires_grad]
        through_shared = torch.autograd.grad(
            [shared[n] for n in learned],
            list(leaves.values()),
            [sums[n] for n in learned],
            allow_unused=True,
        )
        gradients = dict(zip(layers, sums[len(fixed) :], strict=True))
        for (name, p), found in zip(leaves.items(), through_shared, strict=True):
            if name not in layers:
                gradients[name] = no_gradient(p) if found is None else found
            elif found is not None:
                gradients[name] += found
        return gradients, {"loss": float(loss)}

    def _of_group(
        self,
        layers: Params,
        shared: list[torch.Tensor],
        group: Group,
        places: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, Sequence[torch.Tensor | None]]:
        """Return a group's share of the batch's mean loss, and its gradients with respect to its
        users' features, to the support's and the query's rows of each table, and to the layers. A
        gradient is None where nothing was read.

        Args:
            layers: parameters of the decision layers, and the rates.
            shared: the users' embedded features, then the tables of the distinct items.
            places: for support and query, each row's place in those tables.
        """
        user_BF, *tables = shared
        with torch.enable_grad():
            user = user_BF[group.user_B].requires_grad_()
            items = [
                EmbeddedItems([gather(t, place_BR).requires_grad_() for t in tables])
                for place_BR in places
            ]
            state = self.loop.adapt(layers, user, items[0], group.support)
            rows = group.query
            output_BR = self.loop.predict(layers, state, items[1], rows)
            if isinstance(rows, RowsOnBase):
                predicted_BR = rows.predicted(output_BR)
            else:
                predicted_BR = self._estimate(layers, output_BR)
            loss_B = self._outer_loss(predicted_BR, rows.value_BR, rows.mask_BR)
            loss = loss_B.sum() / len(user_BF)
        # A gradient with respect to all of `shared` would cost every group whole tables, which have
        # more rows than the group.
        wanted = [user, *items[0].tables, *items[1].tables, *layers.values()]
        found: Sequence[torch.Tensor | None]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        return loss.detach(), found  # a tensor: for a number, the caller would wait for a GPU

    def adapt(self, params: Params, support: Support) -> UserState:
        """Return each user's embedded features, and what the inner loop keeps of them."""
        user_BF = self.network.embed_users(params, support.user, len(support.rows.mask_BR))
        return self.loop.adapt(params, user_BF, self._embed(params, support.rows), support.rows)

    def prepare(self, params: Params, items: Rows) -> Rows:
        """Return the rows with their items embedded and through their half of the first layer."""
        embedded = self._embed(params, items)
        catalogue = None
        if self.catalogue is not None and len(items.item_BR) == 1:
            catalogue = self.catalogue.prepare(params, embedded, items)
        return PreparedRows(**vars(items), embedded=embedded, catalogue=catalogue)

    def settle(self, params: Params, state: UserState) -> UserState:
        """Return the users as `ranked_by` reads them."""
        return state if self.catalogue is None else self.catalogue.settle(params, state)

    def ranked_by(self, params: Params, settled: UserState, items: Rows) -> torch.Tensor:
        """Return the adapted networks' outputs for items from `prepare`."""
        if self.catalogue is None:
            return self.loop.predict(params, settled, self._embed(params, items), items)
        assert isinstance(items, PreparedRows)
        assert items.catalogue is not None
        return self.catalogue.outputs(params, settled, items.catalogue)

    def predict(self, params: Params, state: UserState, items: Rows) -> Prediction:
        """Return the adapted network's output for each row."""
        embedded = self._embed(params, items)
        output_BR = self.loop.predict(params, state, embedded, items)
        estimate_BR = self._estimate(params, output_BR)
        return Prediction(estimate_BR, utility_BR=None if self.median is None else output_BR)

    def support_gradient_norm(self, params: Params, support: Support) -> torch.Tensor:
        """Return (B,) the Frobenius norm of the first inner step's gradient with respect to the
        weights that adapt."""
        user_BF = self.network.embed_users(params, support.user, len(support.rows.mask_BR))
        items = self._embed(params, support.rows)
        start = self.loop.start(params, user_BF) if isinstance(self.loop, WeightLoop) else {}
        return gradient_norm(self.network, self.steps, params, user_BF, items, support.rows, start)

    def _estimate(self, params: Params, output_BR: torch.Tensor) -> torch.Tensor:
        """Return the predictions for these outputs of the network."""
        if self.median is None:
            return output_BR
        return self.median.of(params, output_BR, torch.ones_like(output_BR))

    def _embed(self, params: Params, rows: Rows) -> EmbeddedItems:
        """Return the items of rows; each distinct one is embedded once."""
        if isinstance(rows, PreparedRows):
            return rows.embedded
        if len(rows.item_BR) == 1:  # few users have an item twice
            items = self.network.embed_items(params, self.item_features, rows.item_BR[0])
            return EmbeddedItems([table_RF[None] for table_RF in items.tables])
        item_U, [place_BR] = distinct([rows.item_BR], self.item_features)
        items = self.network.embed_items(params, self.item_features, item_U)
        return EmbeddedItems([gather(t, place_BR) for t in items.tables])


def _add_group(
    sums: list[torch.Tensor],
    num_tables: int,
    places: list[torch.Tensor],
    found: Sequence[torch.Tensor | None],
) -> None:
    """Add a group's gradients to the sums.

    Args:
        sums: the sums of the gradients with respect to the users' features, the tables and the
            layers.
        places: the group's users, and for support and query each row's place in the tables.
        found: as `MAML._of_group` returns them.
    """
    users, tables = sums[:1], sums[1 : 1 + num_tables]
    place_of = [places[0], *[places[1]] * num_tables, *[places[2]] * num_tables]
    gathered = [*users, *tables, *tables]
    for total, place, gradient in zip(gathered, place_of, found[: len(gathered)], strict=True):
        _add(total, place, gradient)
    for total, gradient in zip(sums[1 + num_tables :], found[len(gathered) :], strict=True):
        if gradient is not None:
            total += gradient


def _add(total_UF: torch.Tensor, place: torch.Tensor, gradient: torch.Tensor | None) -> None:
    """Add the gradients of gathered rows to the table's. A gradient of None means that nothing read
    the rows."""
    if gradient is not None:
        rows = gradient.reshape(place.numel(), total_UF.shape[1])  # which may have no columns
        total_UF.index_add_(0, place.reshape(-1), rows)


LEARNER = MAMLConfig
