"""rebuild: a model again, from the record of its run alone."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.exits import DIFFERS
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.steps.learning.rebuild import Rebuild


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

    The workspace is not changed; the rebuild is logged as a run nested in the original one.

    Exit code 4: a metric differs by more than the tolerance. Exit code 2: the run does not hold
    everything that is needed, or a version of a table is gone.
    """
    from recmeta.registry.tracking import has_store, no_run

    workspace = common.open_workspace()
    if not has_store(workspace):
        raise no_run(workspace, run_id)
    from recmeta.steps.learning import rebuild as step

    with shown_progress() as progress:
        found = step.run(
            workspace,
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


COMMAND = Command(
    rebuild,
    examples="""
recmeta rebuild 5f0c1e7d9a4b4c1d8e2f3a6b7c8d9e0f

recmeta rebuild 5f0c1e7d9a4b4c1d8e2f3a6b7c8d9e0f --into rebuilt --json
""",
    after="rollback",
)
