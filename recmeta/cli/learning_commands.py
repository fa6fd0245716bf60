"""build-tasks, meta-train, evaluate, register, rollback, rebuild: from tables to a champion."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import DIFFERS, REFUSED
from recmeta.cli.options import CommonOptions, ConfigOptions, Device, Force
from recmeta.cli.output import Outcome, as_list
from recmeta.cli.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.steps.rebuild import Rebuild


def build_tasks(common: CommonOptions, configuration: ConfigOptions) -> Outcome:
    """Split users into meta-train, development and cold test, and their rows into tasks."""
    from recmeta.steps import build_tasks as step
    from recmeta.workspace import Workspace

    config = configuration.values()
    with shown_progress() as progress:
        manifest = step.run(config.tasks, Workspace(common.workspace), progress=progress)
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


ContentFrom = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Start from the content of another model, of another data set maybe: its folder, or "
        "models:/NAME/VERSION. Attributes are matched by name, categories by value.",
    ),
]
FreezeContent = Annotated[
    bool, typer.Option("--freeze-content", help="Keep what --content-from brings as it is.")
]


def meta_train(
    common: CommonOptions,
    configuration: ConfigOptions,
    content_from: ContentFrom = None,
    freeze_content: FreezeContent = False,
    device: Device = "auto",
) -> Outcome:
    """Meta-train on the tasks that were built last; a run that was killed goes on."""
    from recmeta import manifest as manifests
    from recmeta.steps import build_tasks
    from recmeta.steps import meta_train as step
    from recmeta.workspace import Workspace

    workspace = Workspace(common.workspace)
    config = configuration.values()
    tasks = manifests.latest(workspace, build_tasks.STEP)
    with shown_progress() as progress:
        training = config.training_for(tasks.outputs["objective"])
        if content_from is not None or freeze_content:
            training = dataclasses.replace(
                training,
                content_from=content_from or training.content_from,
                freeze_content=freeze_content or training.freeze_content,
            )
        manifest = step.run(training, workspace, tasks, device=device, progress=progress)
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


def evaluate(
    common: CommonOptions, configuration: ConfigOptions, device: Device = "auto"
) -> Outcome:
    """Measure the model that was trained last beside the champion and the baselines."""
    from recmeta import manifest as manifests
    from recmeta.errors import UserError
    from recmeta.steps import build_tasks, meta_train
    from recmeta.steps import evaluate as step
    from recmeta.workspace import Workspace

    workspace = Workspace(common.workspace)
    config = configuration.values()
    trained = manifests.latest(workspace, meta_train.STEP)
    # Not the latest tasks: of those it may have been trained on the cold users.
    tasks = manifests.find(workspace, build_tasks.STEP, trained.inputs["tasks"])
    if tasks is None:  # forgotten users take their tasks with them
        raise UserError(
            f"the tasks that the last model was trained on are no longer in {workspace.location}: "
            "run `recmeta build-tasks` and `recmeta meta-train` first."
        )
    with shown_progress() as progress:
        manifest = step.run(
            config.evaluate, workspace, tasks, trained, device=device, progress=progress
        )
    folder = workspace / manifest.outputs["report"]
    data = {
        **manifest.summary(),
        "metrics": folder.read_json("evaluation.json")["metrics"],
        "reasons": folder.read_json("decision.json")["reasons"],
        "reused": manifest.reused,
    }
    return Outcome(data=data, text=folder.read_bytes("report.md").decode())


def register(common: CommonOptions, force: Force = False) -> Outcome:
    """Register the model that was evaluated last; the gate decides whether it is champion.

    Exit code 3: the gate refused; the model is registered as challenger.
    """
    from recmeta import manifest as manifests
    from recmeta.steps import evaluate
    from recmeta.steps import register as step
    from recmeta.workspace import Workspace

    workspace = Workspace(common.workspace)
    evaluated = manifests.latest(workspace, evaluate.STEP)
    manifest = step.run(workspace, evaluated, force=force)
    reasons = (workspace / evaluated.outputs["report"]).read_json("decision.json")["reasons"]
    data = {**manifest.summary(), "reasons": reasons, "reused": manifest.reused}
    promoted = manifest.outputs["promoted"]
    return Outcome(
        data=data,
        text=as_list(data),
        note="" if promoted else refused(manifest.outputs["model_version"]),
        exit_code=0 if promoted else REFUSED,
    )


def rollback(common: CommonOptions) -> Outcome:
    """Make the previous champion the champion again; a second rollback undoes the first."""
    from recmeta.registry import versions
    from recmeta.workspace import Workspace

    old, new = versions.rollback(Workspace(common.workspace))
    data = {"champion": new, "previous": old}
    return Outcome(data=data, text=as_list(data))


def rebuild(
    common: CommonOptions,
    run_id: Annotated[
        str,
        typer.Argument(metavar="RUN_ID", help="MLflow's id of a training.", show_default=False),
    ],
    tolerance: Annotated[
        float, typer.Option(metavar="D", help="Largest difference that counts as equal.")
    ] = 0.0,
    into: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Keep the rebuilt tables, tasks and model there."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda or auto. [default: the device that trained the model]"),
    ] = None,
) -> Outcome:
    """Train a model again from the record of its MLflow run alone, and compare the metrics.

    Nothing of the workspace changes; the rebuild is logged as a run nested in the one repeated.
    Exit code 4: a metric differs by more than the tolerance. Exit code 2: the run does not hold all
    that is needed, or a version of a table is gone.
    """
    from recmeta.steps import rebuild as step
    from recmeta.workspace import Workspace

    with shown_progress() as progress:
        found = step.run(
            Workspace(common.workspace),
            run_id,
            tolerance=tolerance,
            device=device,
            into=into,
            progress=progress,
        )
    notes = [f"Warning: {warning}" for warning in found.warnings]
    if not found.reproduced:
        notes.append(f"The rebuilt model is not the recorded one (exit code {DIFFERS}).")
    return Outcome(
        data={"reproduced": found.reproduced, **dataclasses.asdict(found)},
        text=_side_by_side(found),
        note="\n".join(notes),
        exit_code=0 if found.reproduced else DIFFERS,
    )


def _side_by_side(found: "Rebuild") -> str:
    """Return the metrics as a Markdown table, and what they say."""

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.9g}"

    rows = ["| metric | recorded | rebuilt | equal |", "| --- | ---: | ---: | --- |"]
    rows += [
        f"| {name} | {cell(m.recorded)} | {cell(m.rebuilt)} | {'yes' if m.equal else '**no**'} |"
        for name, m in found.metrics.items()
    ]
    num_equal = sum(metric.equal for metric in found.metrics.values())
    within = f"to within {found.tolerance:g}" if found.tolerance else "to the last bit"
    said = f"{num_equal} of {len(found.metrics)} metrics are equal, {within}."
    if found.folder is not None:
        said += f" Tables, tasks and model are in `{found.folder}`."
    return "\n".join([f"Run `{found.run_id}`, rebuilt: {said}", "", *rows])


def refused(version: str) -> str:
    """Return the line that explains exit code 3."""
    return (
        f"The gate did not promote version {version} (exit code 3); --force promotes it all the "
        "same."
    )
