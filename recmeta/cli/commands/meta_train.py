"""meta-train: from tasks to a model."""

import dataclasses
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, ConfigOptions, Device, Processes
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress

ContentFrom = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Start from the content of another model, perhaps of another data set: its folder, or "
        "models:/NAME/VERSION. Attributes are matched by name, categories by value.",
    ),
]
FreezeContent = Annotated[
    bool, typer.Option("--freeze-content", help="Keep the content of --content-from as it is.")
]


def meta_train(
    common: CommonOptions,
    configuration: ConfigOptions,
    content_from: ContentFrom = None,
    freeze_content: FreezeContent = False,
    device: Device = "auto",
    processes: Processes = 1,
) -> Outcome:
    """Meta-train on the tasks that were built last; a run that was killed continues."""
    from recmeta import manifest as manifests
    from recmeta.steps.data import build_tasks
    from recmeta.steps.learning import meta_train as step

    workspace = common.open_workspace()
    config = configuration.values()
    tasks = manifests.latest(workspace, build_tasks.STEP)
    with shown_progress() as progress:
        training = config.training_for(tasks.outputs.objective)
        if content_from is not None or freeze_content:
            training = dataclasses.replace(
                training,
                content_from=content_from or training.content_from,
                freeze_content=freeze_content or training.freeze_content,
            )
        manifest = step.run(
            training, workspace, tasks, device=device, processes=processes, progress=progress
        )
    data = {**manifest.summary(), "reused": manifest.reused}
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(
    meta_train,
    examples="recmeta meta-train --epochs 20 --device cpu",
    after="build-tasks",
    needs="build-tasks",
    steps=("meta-train",),
)
