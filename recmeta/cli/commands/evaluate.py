"""evaluate: the model beside the champion and the baselines."""

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, ConfigOptions, Device, EngineOptions
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress


def evaluate(
    common: CommonOptions,
    configuration: ConfigOptions,
    engine: EngineOptions,
    device: Device = "auto",
) -> Outcome:
    """Measure the model that was trained last beside the champion and the baselines."""
    from recmeta import manifest as manifests
    from recmeta.errors import UserError
    from recmeta.steps.learning import evaluate as step
    from recmeta.steps.learning import meta_train
    from recmeta.workspace import sealed

    workspace = common.open_workspace()
    workers = engine.values()
    config = configuration.values()
    trained = manifests.latest(workspace, meta_train.STEP)
    # Not the latest tasks: of those it may have been trained on the cold users.
    tasks = meta_train.tasks_of(workspace, trained)
    if tasks is None:  # forgotten users take their tasks with them
        raise UserError(
            f"the tasks that the last model was trained on are no longer in {workspace.location}: "
            "run `recmeta build-tasks` and `recmeta meta-train` first."
        )
    with shown_progress() as progress:
        manifest = step.run(
            config.evaluate,
            workspace,
            tasks,
            trained,
            device=device,
            progress=progress,
            engine=workers,
        )
    folder = sealed(workspace / manifest.outputs.report)
    data = {
        **manifest.summary(),
        "metrics": folder.read_json("evaluation.json")["metrics"],
        "reasons": folder.read_json("decision.json")["reasons"],
        "reused": manifest.reused,
    }
    return Outcome(data=data, text=folder.read_bytes("report.md").decode())


COMMAND = Command(
    evaluate,
    examples="""
recmeta evaluate --json

recmeta evaluate --workers 4
""",
    after="tune",
    needs="meta-train",
    steps=("evaluate",),
)
