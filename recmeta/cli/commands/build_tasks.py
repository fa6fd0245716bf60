"""build-tasks: from tables to tasks."""

from typing import TYPE_CHECKING

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, ConfigOptions
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.manifest import Manifest
    from recmeta.steps.data.build_tasks import BuildTasksOutputs


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
    return Outcome(data=data, text=as_list(data), note=_how(manifest))


def _how(manifest: "Manifest[BuildTasksOutputs]") -> str:
    """Return in one line whether the tasks were built in full, and why."""
    if manifest.reused:
        return "Nothing was built: these tasks are there."
    return f"Built {manifest.outputs.built}."


COMMAND = Command(
    build_tasks,
    examples="recmeta build-tasks --seed 7",
    after="materialise-features",
    steps=("build-tasks",),
)
