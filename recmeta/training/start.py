"""The model with which meta-training begins."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import torch

from recmeta.errors import UserError
from recmeta.evaluation.baseline import OnTrial, unrecorded
from recmeta.evaluation.baselines.factors.mf_fold_in import tune_matrix_factorisation
from recmeta.evaluation.baselines.factors.weighted_als import WeightedALS, tune_weighted_als
from recmeta.metalearn.factors.factorisation import BayesianFactorisation
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.member_config import as_member, of_member
from recmeta.metalearn.members import member, num_members
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import Epoch, TrainingConfig, task_losses
from recmeta.metalearn.starts.beginning import (
    ItemFactors,
    Start,
    StartInputs,
    WeightedItemFactors,
)
from recmeta.metalearn.starts.content_transfer import matched
from recmeta.metalearn.starts.earlier_model import start_from_model
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.standard_error import is_as_good


@dataclasses.dataclass(frozen=True)
class BegunMember:
    """The inputs of a member's training, in addition to its parameters in the model."""

    left_out_KIF: torch.Tensor | None
    """See `TaskBatch.left_out_KIF`."""
    held: Mapping[str, torch.Tensor]
    """As in `Begun`."""


@dataclasses.dataclass(frozen=True)
class TrainedMembers:
    """The members of a model as they are after their training."""

    params: Params
    """Their parameters, by the names that they have in the learner around them."""
    best: tuple[Epoch, ...]
    """The epoch of each member whose parameters were kept."""
    chosen: WeightedALSConfig | None
    """As in `Begun`."""


@dataclasses.dataclass(frozen=True)
class Begun:
    """A model at its start."""

    model: Model
    """The model with its initial parameters."""
    left_out_KIF: torch.Tensor | None = None
    """See `TaskBatch.left_out_KIF`."""
    held: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    """By parameter, (N,) which of its rows are the source's and stay unchanged."""
    members: tuple["BegunMember", ...] = ()
    """The members that are trained before the model, in order; empty if they are trained."""
    trained: TrainedMembers | None = None
    """The members that were trained with another model, or None."""
    chosen: WeightedALSConfig | None = None
    """The weighted factorisation that the development users chose, if the model starts from one."""
    earlier: Model | None = None
    """The model from which this one continues, if any."""
    source: Model | None = None
    """The model from whose content this one starts, if any."""


def at_start(
    config: MetaTrainConfig,
    task_set: TaskSet,
    device: torch.device,
    earlier: Model | None = None,
    on_trial: OnTrial = unrecorded,
    source: Model | None = None,
    tuned_on: TaskSet | None = None,
    chosen: WeightedALSConfig | None = None,
    trained: TrainedMembers | None = None,
) -> Begun:
    """Return the model that meta-training begins with.

    Args:
        earlier: the model from which to continue, or None.
        on_trial: called with each factorisation that was tried.
        source: the result of `content_source`.
        tuned_on: the task set whose development users choose the factorisation, or None for
            `task_set`.
        chosen: the weighted factorisation that they chose, if that is already known.
        trained: the members, if another model has trained the same ones on the same task set: they
            are taken as they are. Not together with `earlier`.

    Raises:
        UserError: if all ratings are the same, a feature is unknown, or nothing of the source's
            content fits the model.
    """
    spec = task_set.spec
    lowest, highest = spec.value_range
    if spec.objective == "rating" and spec.num_tasks["train"] and lowest == highest:
        raise UserError(
            f"every rating of the meta-training users is {lowest:g}, which does not show what "
            "they like: ingest the log without a value column, as implicit feedback."
        )
    known = source if earlier is None else earlier
    model = Model.untrained(
        config.model, task_set, device, None if known is None else known.encoder
    )
    if config.refit and spec.objective == "rating":
        raise UserError("refit is true, which is for implicit feedback: leave it out for ratings.")
    weighted: list[WeightedItemFactors] = []
    factorised: dict[int, BayesianFactorisation] = {}

    def start_of(how: MetaTrainConfig, built: Model, content: Model | None) -> Start:
        inputs = _inputs(how, task_set, on_trial, content, tuned_on, chosen)

        def recorded() -> WeightedItemFactors:
            weighted.append(weighted[-1] if weighted else inputs.tuned_weighted_factors())
            return weighted[-1]

        return learner_start(
            built,
            dataclasses.replace(
                inputs,
                seed=config.seed,
                keep_source=config.freeze_content,
                tuned_weighted_factors=recorded,
                continues=earlier is not None,
                factorised=factorised,
            ),
        )

    def held_of(built: Model, params: Params, content: Model | None) -> dict[str, torch.Tensor]:
        if content is None or not config.freeze_content:
            return {}
        return matched(built, content).held_rows(params)

    content, *of_members = _contents(model, source)
    start = start_of(config, model, content)
    held = held_of(model, start.params, content)
    model.params, members = dict(start.params), []
    if trained is not None:
        assert earlier is None, "what continues from an earlier model has its members"
        model.params |= {name: p.clone() for name, p in trained.params.items()}
    for number, how in enumerate(config.members if trained is None else ()):
        part = member(model, number)
        of_one = start_of(how, part, of_members[number])
        model.params |= as_member(number, of_one.params)
        held_of_one = held_of(part, of_one.params, of_members[number])
        members.append(BegunMember(of_one.left_out_KIF, held_of_one))
    if earlier is not None:
        model.params = _continued(model, earlier)
    model.params = {name: p.to(device) for name, p in model.params.items()}
    found = [one.config for one in weighted]
    if trained is not None and trained.chosen is not None:
        found.append(trained.chosen)
    return Begun(
        model=model,
        left_out_KIF=start.left_out_KIF,
        held=held,
        members=tuple(members),
        trained=trained,
        chosen=found[-1] if found else None,
        earlier=earlier,
        source=source,
    )


def _continued(model: Model, earlier: Model) -> Params:
    """Return the parameters of an earlier model, as far as they fit the new one. An earlier model
    without members may be like one of the members, which then continues from it.

    Raises:
        UserError: if it is neither like a member nor like the new model.
    """
    for number in range(num_members(model)):
        part = member(model, number)
        if num_members(earlier) == 0 and earlier.algorithm == part.algorithm:
            rescaled = functools.partial(part.config.learner.rescaled, part)
            own = start_from_model(part, part.params, earlier, rescaled)
            return model.params | as_member(number, own)
    return start_from_model(model, model.params, earlier, functools.partial(_rescaled, model))


def _contents(model: Model, source: Model | None) -> list[Model | None]:
    """Return the sources from whose content the model and each of its members start. A source
    without members is a source for the member that it is like."""
    number = num_members(model)
    if source is None:
        return [None] * (1 + number)
    if num_members(source) == number:
        return [source, *(member(source, n) for n in range(number))]
    return [None] + [source] * number


def _rescaled(model: Model, params: Params, ratio: float, shift: float) -> Params:
    """Return parameters for another scale of values: the learner's own, then its members'."""
    found = model.config.learner.rescaled(model, params, ratio, shift)
    for number in range(num_members(model)):
        part = member(model, number)
        own = part.config.learner.rescaled(part, of_member(number, params), ratio, shift)
        found = found | as_member(number, own)
    return found


def learner_start(model: Model, inputs: StartInputs) -> Start:
    """Return the start of a model's learner."""
    fresh = model.learner.init_params(torch.Generator().manual_seed(inputs.seed))
    return model.config.learner.start(model, fresh, inputs)


def best_of(
    model: Model,
    start: Params,
    history: Sequence[Epoch],
    development: Tasks,
    config: TrainingConfig,
) -> Epoch:
    """Return the epoch that did best on development users, or the last one if there are none.
    Number 0 is the start, to which the model returns if no epoch beats it, and which it keeps if
    there was no epoch. A start that is a trained model itself (`LearnerConfig.begins_trained`) is
    beaten only by more than a standard error of the mean difference.

    Args:
        model: the model with the parameters of its best epoch.
        start: the initial parameters.
    """
    if not len(development):
        return history[-1] if history else Epoch(0, math.nan, 0.0)
    start_U = task_losses(model, start, development, config).numpy()
    start_loss = float(start_U.mean())
    if not history:
        return Epoch(0, math.nan, start_loss)
    best = min(history, key=lambda e: e.dev_loss)
    keeps_start = start_loss <= best.dev_loss
    if not keeps_start and model.config.learner.begins_trained and len(start_U) > 1:
        best_U = task_losses(model, model.params, development, config).numpy()
        keeps_start = is_as_good(start_U, best_U)
    if not keeps_start:
        return best
    model.params = start
    return Epoch(0, math.nan, start_loss)


def _inputs(
    config: MetaTrainConfig,
    task_set: TaskSet,
    on_trial: OnTrial = unrecorded,
    source: Model | None = None,
    tuned_on: TaskSet | None = None,
    chosen: WeightedALSConfig | None = None,
) -> StartInputs:
    """Return the possible starts of a learner on a task set."""
    spec, seed = task_set.spec, config.seed
    train_tasks, dev_tasks = task_set.tasks("train"), task_set.tasks("dev")

    def tuned_factors() -> ItemFactors:
        found = tune_matrix_factorisation(spec, train_tasks, dev_tasks, seed, on_trial)
        return ItemFactors(found.item_IC[:, 0], found.item_IC[:, 1:])

    def tuned_weighted_factors() -> WeightedItemFactors:
        if chosen is not None:
            found = WeightedALS.fit(train_tasks, spec.num_items, chosen, seed)
        elif tuned_on is None:
            found = tune_weighted_als(train_tasks, dev_tasks, spec.num_items, seed)
        else:
            earlier, judges = tuned_on.tasks("train"), tuned_on.tasks("dev")
            found = tune_weighted_als(earlier, judges, spec.num_items, seed, everybody=train_tasks)
        return WeightedItemFactors(found.item_IF, found.config)

    return StartInputs(
        name=config.start,
        seed=seed,
        tasks=train_tasks,
        tuned_factors=tuned_factors,
        tuned_weighted_factors=tuned_weighted_factors,
        last_layer_ridge=config.last_layer_ridge,
        source=source,
        keep_source=config.freeze_content,
    )
