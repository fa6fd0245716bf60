"""build-tasks, meta-train, evaluate, register and rollback: from tables to a champion."""

from recmeta.cli.command import REFUSED
from recmeta.cli.options import CommonOptions, ConfigOptions, Device, Force
from recmeta.cli.output import Outcome, as_list
from recmeta.cli.progress_bars import shown_progress


def build_tasks(common: CommonOptions, configuration: ConfigOptions) -> Outcome:
    """Split users into meta-train, development and cold test, and their rows into tasks."""
    from recmeta.steps import build_tasks as step
    from recmeta.workspace import Workspace

    config = configuration.values()
    with shown_progress() as progress:
        manifest = step.run(config.tasks, Workspace(common.workspace), progress=progress)
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


def meta_train(
    common: CommonOptions, configuration: ConfigOptions, device: Device = "auto"
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
        manifest = step.run(config.train, workspace, tasks, device=device, progress=progress)
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


def evaluate(
    common: CommonOptions, configuration: ConfigOptions, device: Device = "auto"
) -> Outcome:
    """Measure the model that was trained last beside the champion and the baselines."""
    from recmeta import manifest as manifests
    from recmeta.steps import build_tasks, meta_train
    from recmeta.steps import evaluate as step
    from recmeta.workspace import Workspace

    workspace = Workspace(common.workspace)
    config = configuration.values()
    trained = manifests.latest(workspace, meta_train.STEP)
    # Not the latest tasks: of those it may have been trained on the cold users.
    tasks = manifests.find(workspace, build_tasks.STEP, trained.inputs["tasks"])
    assert tasks is not None, "meta-train ran after build-tasks"
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


def refused(version: str) -> str:
    """Return the line that explains exit code 3."""
    return (
        f"The gate did not promote version {version} (exit code 3); --force promotes it all the "
        "same."
    )
