"""tasks ──▶ model: meta-train across users, with a checkpoint and a line in MLflow per epoch."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.evaluation.baselines.fit import (
    OnTrial,
    Trial,
    tune_biases,
    tune_matrix_factorisation,
    unrecorded,
)
from recmeta.evaluation.baselines.weighted_als import tune_weighted_als
from recmeta.evaluation.calibration import learn_uncertainty
from recmeta.manifest import Manifest, find, git_commit, library_versions, run_once
from recmeta.metalearn.algorithms.weighted_ridge import WeightedRidge
from recmeta.metalearn.content_transfer import matched, start_from_content
from recmeta.metalearn.implicit_start import start_network, start_weighted_ridge
from recmeta.metalearn.last_layer import reads_linearly, start_last_layer
from recmeta.metalearn.learner import Params
from recmeta.metalearn.members import with_members
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.pretraining import (
    has_embedding_per_item,
    reads_item_vectors,
    start_from_factorisation,
    start_from_factors,
    start_from_model,
)
from recmeta.metalearn.trainer import Epoch, TrainingConfig, train
from recmeta.progress import Progress, silent
from recmeta.registry import versions
from recmeta.registry.features import features_read
from recmeta.registry.training_run import TrainingRun
from recmeta.registry.tuning import log_tuning
from recmeta.registry.versions import Version
from recmeta.steps.members import judged_choice, train_members
from recmeta.tasks.episodes import EpisodeConfig, concatenate
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder, Workspace

STEP = "meta-train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTrainConfig:
    """Everything that decides which model comes out of a task set."""

    model: ModelConfig = ModelConfig()
    """Features, network and learner."""
    episodes: EpisodeConfig = EpisodeConfig()
    """How users are presented."""
    training: TrainingConfig = TrainingConfig()
    """The outer loop."""
    start: Literal["factors", "bayesian-factors", "champion", "random"] = "factors"
    """`factors`: the items' embeddings start from a matrix factorisation, whose size and
    regularisation the development users choose. `bayesian-factors`: from one that needs no tuning
    and whose items fall back on content; content's embeddings start from it too. The Bayesian
    linear learner takes the latter for either; implicit feedback takes a weighted factorisation for
    either. `champion`: everything starts from the champion of now; before the first one, from
    factors."""
    content_from: str | None = None
    """A model, of another data set maybe, whose content this one starts from: its folder, or
    `models:/NAME/VERSION` or `models:/NAME@ALIAS` in MLflow. Attributes are matched by name and
    categories by value; ids are never carried over. It needs the same learner and widths. Not with
    `start = "champion"`."""
    freeze_content: bool = False
    """Whether what `content_from` says of content stays as it is; otherwise it goes on learning."""
    last_layer_ridge: float | None = None
    """Of MAML's start from `factors`: the last layer begins as the ridge regression of the values,
    with this weight, on what it reads. None: as the sum of the items' biases. Ratings only."""
    refit: bool = False
    """Whether the development users are learned from in the end: once they have said how many
    epochs are best, training begins anew with them among the others. Implicit feedback only."""
    seed: int = 0
    """Of initial parameters and the order of users."""
    members: tuple["MetaTrainConfig", ...] = ()
    """Of a selector: which learners it chooses from, and how each is trained before the gate is.
    What they read, and the seed, are the selector's. Without any, those that its learner names
    learn along with the gate, from `random`."""

    def __post_init__(self) -> None:
        if self.members and self.model.algorithm != "selector":
            raise ValueError(
                f"members are given, and the algorithm is {self.model.algorithm!r}: only the "
                "selector has members."
            )
        if self.members:
            if any(how.content_from is not None for how in (self, *self.members)):
                raise ValueError("content_from is given: a selector's members cannot start so.")
            models = tuple(how.model for how in self.members)
            object.__setattr__(self, "model", with_members(self.model, models))
        if self.refit and self.members:
            raise ValueError("refit is true: a selector's members are trained once.")
        if self.content_from is None and self.freeze_content:
            raise UserError("freeze_content is true without content_from: name the model, too.")
        if self.content_from is not None and self.start == "champion":
            raise UserError(
                f"content_from is {self.content_from!r} and start 'champion', which brings its own "
                "content: start from 'factors', 'bayesian-factors' or 'random' instead."
            )


def run(
    config: MetaTrainConfig,
    workspace: Workspace,
    tasks: Manifest,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> Manifest:
    """Meta-train a model on a task set; a run that was killed goes on after its last epoch.

    Args:
        tasks: the manifest of build-tasks.
        device: `cpu`, `cuda` or `auto`. It is no part of the step's key.

    Raises:
        UserError: when training diverges, the device is not there or a feature is unknown.
    """
    torch_device = choose_device(device)
    champion = _start_from(workspace, config, tasks) if config.start == "champion" else None
    inputs = {"tasks": tasks.key}
    if champion is not None:
        inputs["champion"] = champion.version
    source = content_source(config, workspace)
    if source is not None:
        inputs["content_from"] = source.digest()

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        folder = workspace / "models" / key
        task_set = TaskSet(workspace / tasks.outputs["tasks"])
        trials: list[Trial] = []
        earlier = None
        if champion is not None:
            earlier = Model.load(versions.model_folder(workspace, champion))
        model = at_start(config, task_set, torch_device, earlier, trials.append, source)
        tracked = _tracked(workspace, key, config, tasks, inputs, model)
        log_tuning(workspace, tracked.run_id, STEP, trials)
        carried = {} if source is None else matched(model, source).report()
        if carried:
            tracked.log_carried_over(carried)

        def on_epoch(epoch: Epoch) -> None:
            tracked.log_epoch(epoch)
            progress(STEP, epoch.number, config.training.epochs)

        with tracked:
            history = fit(config, model, task_set, folder, on_epoch, source)
            progress(STEP, config.training.epochs, config.training.epochs)
            choice = judged_choice(model, task_set.tasks("dev"), folder)
            best = best_epoch(history, task_set)
            num_passes = len(history)
            if config.refit:
                num_passes += best.number
                told = functools.partial(_tell, progress, best.number)
                model = refit(config, model, best, task_set, folder, told, earlier, source)
            model.save(folder)
            folder.write_json("history.json", [dataclasses.asdict(e) for e in history])
        outputs = {
            "model": f"models/{key}",
            "run_id": tracked.run_id,
            "device": torch_device.type,
            "best_epoch": best.number,
            "dev_loss": best.dev_loss,
            **({"carried_over": carried} if carried else {}),
            **config.model.learner.guarantees(num_passes),
            **choice,
        }
        num_parameters = sum(p.numel() for p in model.params.values())
        return outputs, {"epochs": len(history), "parameters": num_parameters}

    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def _tell(progress: Progress, num_epochs: int, epoch: Epoch) -> None:
    progress("refit", epoch.number, num_epochs)


def _tracked(
    workspace: Workspace,
    key: str,
    config: MetaTrainConfig,
    tasks: Manifest,
    inputs: dict[str, str],
    model: Model,
) -> TrainingRun:
    """Return the MLflow run of the training with this key."""
    table_id = tasks.outputs[schema.INTERACTIONS_ID]
    return TrainingRun.start_or_resume(
        workspace,
        key,
        config=to_dict(config),
        inputs={**tasks.inputs, **inputs, schema.INTERACTIONS_ID: table_id},
        tasks_config=tasks.config,
        features=features_read(model),
        device=model.device.type,
        libraries=library_versions(),
        git_commit=git_commit(),
    )


def _start_from(workspace: Workspace, config: MetaTrainConfig, tasks: Manifest) -> Version | None:
    """Return the champion to start from, or None before the first one.

    A champion that came out of the very training that is asked for was started from another one,
    and so is its repetition.
    """
    champion = versions.champion(workspace)
    if champion is None or champion.model_key is None:
        return champion
    made_by = find(workspace, STEP, champion.model_key)
    if made_by is None or made_by.inputs["tasks"] != tasks.key or made_by.config != to_dict(config):
        return champion
    before = made_by.inputs.get("champion")
    return None if before is None else versions.get(workspace, before)


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


def fit(
    config: MetaTrainConfig,
    model: Model,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    source: Model | None = None,
) -> list[Epoch]:
    """Meta-train a model in place, a selector's members first, and learn how far it is off; return
    its epochs.

    Args:
        folder: of the checkpoints. Where there are some already, training goes on from them.
        source: what `content_source` gives.
    """
    held = {}
    if source is not None and config.freeze_content:
        held = matched(model, source).held_rows(model.params)
    development = task_set.tasks("dev")
    train_members(config, model, task_set, folder, _begun)
    history = train(
        model,
        task_set.tasks("train"),
        development,
        episodes=config.episodes,
        config=config.training,
        seed=config.seed,
        in_order=task_set.spec.temporal,
        checkpoint=folder,
        on_epoch=on_epoch,
        held=held,
    )
    model.uncertainty = learn_uncertainty(model, development)
    return history


def best_epoch(history: Sequence[Epoch], task_set: TaskSet) -> Epoch:
    """Return the epoch whose parameters `fit` kept."""
    if not task_set.spec.num_tasks["dev"]:
        return history[-1]
    return min(history, key=lambda e: e.dev_loss)


def refit(
    config: MetaTrainConfig,
    model: Model,
    best: Epoch,
    task_set: TaskSet,
    folder: Folder,
    on_epoch: Callable[[Epoch], None],
    earlier: Model | None = None,
    source: Model | None = None,
    everybody: TaskSet | None = None,
) -> Model:
    """Return a model that has learned from the development users, too: from the start again, for as
    many epochs as were best without them. Where there are none, it is the same model.

    Args:
        model: trained by `fit` on the task set.
        best: its best epoch.
        folder: of the model; the checkpoint is below it, and training goes on from it.
        earlier: the model that training went on from, where there was one.
        source: what `content_source` gives.
        everybody: whom to train on; None: the training and the development users.
    """
    if not task_set.spec.num_tasks["dev"]:
        return model
    everybody = task_set.joined() if everybody is None else everybody
    training = dataclasses.replace(config.training, epochs=best.number)
    config = dataclasses.replace(config, training=training)
    again = at_start(config, everybody, model.device, earlier, source=source, tuned_on=task_set)
    fit(config, again, everybody, folder / "refit", on_epoch, source)
    return again


def _begun(config: MetaTrainConfig, model: Model, task_set: TaskSet) -> Params:
    """Return the parameters that the training of a selector's member begins with."""
    fresh = model.learner.init_params(torch.Generator().manual_seed(config.seed))
    return _with_factors(config, model, task_set, fresh, unrecorded, None)


def content_source(config: MetaTrainConfig, workspace: Workspace) -> Model | None:
    """Return the model that `content_from` names, or None where it names none.

    Raises:
        UserError: when there is no such model.
    """
    if config.content_from is None:
        return None
    return Model.load(versions.named_model(workspace, config.content_from))


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


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one.

    Raises:
        UserError: for an unknown name, or `cuda` where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {name!r}; it must be one of cpu, cuda, auto.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device is 'cuda', and PyTorch finds no CUDA GPU here. Use --device cpu, or install a "
            "PyTorch build with CUDA (`recmeta doctor` tells which build is installed)."
        )
    use_cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")
