"""The model that meta-training begins with."""

import torch

from recmeta.errors import UserError
from recmeta.evaluation.baselines.fit import (
    OnTrial,
    tune_biases,
    tune_matrix_factorisation,
    unrecorded,
)
from recmeta.evaluation.baselines.weighted_als import tune_weighted_als
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import WeightedRidge
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.starts.content_transfer import start_from_content
from recmeta.metalearn.starts.implicit_start import start_network, start_weighted_ridge
from recmeta.metalearn.starts.last_layer import reads_linearly, start_last_layer
from recmeta.metalearn.starts.pretraining import (
    has_embedding_per_item,
    reads_item_vectors,
    start_from_factorisation,
    start_from_factors,
    start_from_model,
)
from recmeta.tasks.episodes import concatenate
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig


def at_start(
    config: MetaTrainConfig,
    task_set: TaskSet,
    device: torch.device,
    earlier: Model | None = None,
    on_trial: OnTrial = unrecorded,
    source: Model | None = None,
    tuned_on: TaskSet | None = None,
) -> Model:
    """Return the model that meta-training begins with.

    Args:
        earlier: the model to go on from, where there is one.
        on_trial: told of each factorisation that was tried.
        source: what `content_source` gives.
        tuned_on: whose development users choose the factorisation; None: those of `task_set`.

    Raises:
        UserError: where all ratings are the same, a feature is unknown, or nothing of the source's
            content has a place in the model.
    """
    spec = task_set.spec
    lowest, highest = spec.value_range
    if spec.objective == "rating" and spec.num_tasks["train"] and lowest == highest:
        raise UserError(
            f"every rating of the meta-training users is {lowest:g}, which says nothing of what "
            "they like: ingest the log without a value column, as implicit feedback."
        )
    known = source if earlier is None else earlier
    model = Model.untrained(
        config.model, task_set, device, None if known is None else known.encoder
    )
    if config.refit and spec.objective == "rating":
        raise UserError("refit is true, which is for implicit feedback: leave it out for ratings.")
    params = model.learner.init_params(torch.Generator().manual_seed(config.seed))
    # A new factorisation has other axes than the one that an earlier closed-form model had.
    keeps_axes = earlier is not None and reads_item_vectors(params)
    model.params = (
        params
        if keeps_axes
        else _with_factors(config, model, task_set, params, on_trial, source, tuned_on)
    )
    if source is not None and not _in_factors(config, task_set, params):
        model.params = start_from_content(model, model.params, source)
    if earlier is not None:
        model.params = start_from_model(model, model.params, earlier)
    return model


def member_start(config: MetaTrainConfig, model: Model, task_set: TaskSet) -> Params:
    """Return the parameters that the training of a selector's member begins with."""
    fresh = model.learner.init_params(torch.Generator().manual_seed(config.seed))
    return _with_factors(config, model, task_set, fresh, unrecorded, None)


def _in_factors(config: MetaTrainConfig, task_set: TaskSet, params: Params) -> bool:
    """Return whether a source's content goes into the factorisation that training starts from."""
    has_rows = task_set.spec.objective == "rating" and task_set.spec.num_tasks["train"] > 0
    return config.start != "random" and has_rows and reads_item_vectors(params)


def _with_factors(
    config: MetaTrainConfig,
    model: Model,
    task_set: TaskSet,
    params: Params,
    on_trial: OnTrial,
    source: Model | None,
    tuned_on: TaskSet | None = None,
) -> Params:
    """Return parameters whose item embeddings know a matrix factorisation, if that is asked for."""
    spec, train_tasks, dev_tasks = task_set.spec, task_set.tasks("train"), task_set.tasks("dev")
    if config.start == "random" or len(train_tasks) == 0:
        return params
    if spec.objective == "implicit":
        if not isinstance(model.learner, WeightedRidge) and not has_embedding_per_item(params):
            return params
        if tuned_on is None:
            chosen = tune_weighted_als(train_tasks, dev_tasks, spec.num_items, config.seed)
        else:
            earlier, judges = tuned_on.tasks("train"), tuned_on.tasks("dev")
            chosen = tune_weighted_als(
                earlier, judges, spec.num_items, config.seed, everybody=train_tasks
            )
        rows = concatenate(train_tasks.support, train_tasks.query)
        if not isinstance(model.learner, WeightedRidge):
            return start_network(model, params, rows, chosen.item_IF)
        return start_weighted_ridge(model, params, rows, chosen.item_IF, chosen.config, config.seed)
    if config.start == "bayesian-factors" or reads_item_vectors(params):
        rows = concatenate(train_tasks.support, train_tasks.query)
        return start_from_factorisation(
            model, params, rows, config.seed, source, keep=config.freeze_content
        )
    biases = tune_biases(spec, train_tasks, dev_tasks, on_trial)
    found = tune_matrix_factorisation(
        spec, train_tasks, dev_tasks, biases.config, config.seed, on_trial
    )
    started = start_from_factors(model, params, found.item_IC[:, 0], found.item_IC[:, 1:])
    if config.last_layer_ridge is None or not reads_linearly(model, started):
        return started
    return start_last_layer(model, started, train_tasks, config.last_layer_ridge)
