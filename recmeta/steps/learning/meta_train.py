"""tasks ──▶ model: meta-train across users, with a checkpoint and a line in MLflow per epoch."""

import dataclasses
from typing import Any

from recmeta import schema
from recmeta.config import to_dict
from recmeta.evaluation.baseline import Trial
from recmeta.manifest import Manifest, find, run_once, whole
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.metalearn.starts.content_transfer import matched
from recmeta.progress import Progress, silent
from recmeta.records.provenance import git_commit, library_versions
from recmeta.records.step_definition import Folders, Step, spread
from recmeta.registry.models import versions
from recmeta.registry.models.features import features_read
from recmeta.registry.models.versions import Version
from recmeta.registry.runs.training_run import TrainingRun
from recmeta.registry.runs.tuning import log_tuning
from recmeta.steps.data import build_tasks
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.device import choose_device
from recmeta.training.fit import fit_whole
from recmeta.training.start import at_start
from recmeta.workspace import Workspace, sealing


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTrainOutputs:
    """The outputs of meta-train."""

    model: str
    """Folder of the model, in the workspace."""
    run_id: str
    """MLflow's id of the training."""
    device: str
    """The kind of device that trained it: `cpu` or `cuda`."""
    best_epoch: int
    """The epoch whose parameters were kept, from 1."""
    dev_loss: float
    """The losses of that epoch: see `recmeta.metalearn.outer_loop.trainer.Epoch`."""
    carried_over: dict[str, str] | None = None
    """What was taken from the model that `content_from` names, by `side.field`; None without
    one."""
    also: dict[str, Any] = spread()
    """What the learner guarantees (`LearnerConfig.guarantees`) and, for a selector, what its choice
    is worth."""


STEP = Step(
    "meta-train", MetaTrainOutputs, is_long=True, leaves=(Folders(lambda outputs: [outputs.model]),)
)


def run(
    config: MetaTrainConfig,
    workspace: Workspace,
    tasks: Manifest[BuildTasksOutputs],
    *,
    device: str = "auto",
    processes: int = 1,
    progress: Progress = silent,
) -> Manifest[MetaTrainOutputs]:
    """Meta-train a model on a task set; a run that was killed continues after its last epoch.

    Args:
        tasks: the manifest of build-tasks.
        device: `cpu`, `cuda` or `auto`. It is not part of the step's key.
        processes: number of processes of this machine that share each outer gradient. They train
            the same model as one process, up to rounding, and are not part of the step's key,
            either.

    Raises:
        UserError: if training diverges, the device does not exist or a feature is unknown.
    """
    torch_device = choose_device(device)
    champion = _start_from(workspace, config, tasks) if config.start == "champion" else None
    inputs = {"tasks": tasks.key}
    if champion is not None:
        inputs["champion"] = champion.version
    source = content_source(config.content_from, workspace)
    if source is not None:
        inputs["content_from"] = source.digest()

    def work(key: str) -> tuple[MetaTrainOutputs, dict[str, int]]:
        folder = workspace / "models" / key
        task_set = TaskSet(workspace / tasks.outputs.tasks)
        trials: list[Trial] = []
        earlier = None
        if champion is not None:
            earlier = Model.load(versions.model_folder(workspace, champion))
        begun = at_start(config, task_set, torch_device, earlier, trials.append, source)
        model = begun.model
        tracked = _tracked(workspace, key, config, tasks, inputs, model)
        log_tuning(workspace, tracked.run_id, STEP, trials)
        carried = {} if source is None else matched(model, source).report()
        if carried:
            tracked.log_carried_over(carried)

        def on_epoch(epoch: Epoch) -> None:
            tracked.log_epoch(epoch)
            progress(STEP, epoch.number, config.training.epochs)

        def on_refit(epoch: Epoch, num_epochs: int) -> None:
            progress(STEP, config.training.epochs, config.training.epochs)
            progress("refit", epoch.number, num_epochs)

        def on_member(algorithm: str, num_epochs: int, epoch: Epoch) -> None:
            progress(algorithm, epoch.number, num_epochs)

        with tracked:
            done = fit_whole(
                config, begun, task_set, folder, on_epoch, on_refit, on_member, processes
            )
            progress(STEP, config.training.epochs, config.training.epochs)
            with sealing(folder) as place:
                done.model.save(place)
                place.write_json("history.json", [dataclasses.asdict(e) for e in done.history])
        outputs = MetaTrainOutputs(
            model=f"models/{key}",
            run_id=tracked.run_id,
            device=torch_device.type,
            best_epoch=done.best.number,
            dev_loss=done.best.dev_loss,
            carried_over=carried or None,
            also={**config.model.learner.guarantees(done.num_passes), **done.choice},
        )
        num_parameters = sum(p.numel() for p in done.model.params.values())
        return outputs, {"epochs": len(done.history), "parameters": num_parameters}

    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def _tracked(
    workspace: Workspace,
    key: str,
    config: MetaTrainConfig,
    tasks: Manifest[BuildTasksOutputs],
    inputs: dict[str, str],
    model: Model,
) -> TrainingRun:
    """Return the MLflow run of the training with this key."""
    table_id = tasks.outputs.interactions_id
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


def _start_from(
    workspace: Workspace, config: MetaTrainConfig, tasks: Manifest[BuildTasksOutputs]
) -> Version | None:
    """Return the champion to start from, or None before the first one.

    If the champion is the result of the very training that is asked for, that training started from
    an earlier one, and so does its repetition.
    """
    champion = versions.champion(workspace)
    if champion is None or champion.model_key is None:
        return champion
    made_by = find(workspace, STEP, champion.model_key)
    if made_by is None or made_by.inputs["tasks"] != tasks.key or made_by.config != to_dict(config):
        return champion
    before = made_by.inputs.get("champion")
    return None if before is None else versions.get(workspace, before)


def tasks_of(
    workspace: Workspace, trained: Manifest[MetaTrainOutputs]
) -> Manifest[BuildTasksOutputs] | None:
    """Return the manifest of the tasks that a model was trained on; None if they are gone, as after
    users were forgotten."""
    return whole(workspace, build_tasks.STEP, trained.inputs["tasks"])


def content_source(content_from: str | None, workspace: Workspace) -> Model | None:
    """Return the model that a training's `content_from` names, or None if it names none.

    Raises:
        UserError: if there is no such model.
    """
    if content_from is None:
        return None
    return Model.load(versions.named_model(workspace, content_from))
