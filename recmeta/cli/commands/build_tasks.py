"""build-tasks: from tables to tasks."""

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, ConfigOptions
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress


def build_tasks(common: CommonOptions, configuration: ConfigOptions) -> Outcome:
    """Split users into meta-train, development and cold test, and their rows into tasks."""
    from recmeta.schema import INTERACTIONS

    workspace = common.open_workspace()
    workspace.require(INTERACTIONS)
    config = configuration.values()
    from recmeta.steps.data import build_tasks as step

    with shown_progress() as progress:
        manifest = step.run(config.tasks, workspace, progress=progress)
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(
    build_tasks,
    examples="recmeta build-tasks --seed 7",
    after="materialise-features",
    steps=("build-tasks",),
)
