"""tune: search hyperparameters and architecture, to a configuration for the other commands."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, ConfigOptions, Device, Processes
from recmeta.cli.output import Outcome, write_file
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.steps.learning.tune import Tuned


def tune(
    common: CommonOptions,
    configuration: ConfigOptions,
    trials: Annotated[
        int, typer.Option(min=1, help="The number of trials, including those of earlier calls.")
    ] = 30,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop after this time; the same call continues later. [default: no limit]"
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.toml",
            help="What to search: { choices = [..] } or { low = .., high = .., log = true } "
            "instead of values of [train]; or inner-loop, for what adapts and how. "
            "[default: what is usual for the learner]",
        ),
    ] = None,
    stop: Annotated[
        Literal["median", "halving"],
        typer.Option(
            help="Stop trials that are worse than the median of the others at the same epoch, or, "
            "by successive halving, all but the best third at epochs 1, 3, 9, …"
        ),
    ] = "median",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Write the best configuration there, too."),
    ] = None,
    device: Device = "auto",
    processes: Processes = 1,
) -> Outcome:
    """Find the hyperparameters, the architecture and the learner that do best on the development
    users.

    --learner may name several, separated by commas. A search that was killed continues. The cold
    test users are never looked at.
    """
    from recmeta import manifest as manifests
    from recmeta.errors import UserError
    from recmeta.steps.data import build_tasks
    from recmeta.steps.learning import tune as step
    from recmeta.steps.learning.study import Candidate
    from recmeta.training.search_space import named_space

    if out is not None and not out.expanduser().absolute().parent.is_dir():
        raise UserError(f"--out {str(out)!r} cannot be written: its folder is not there.")
    workspace = common.open_workspace()
    tasks = manifests.latest(workspace, build_tasks.STEP)
    names = configuration.learner.split(",") if configuration.learner else [None]
    candidates = {}
    for name in names:
        named = dataclasses.replace(configuration, learner=name and name.strip())
        config = named.values().training_for(tasks.outputs.objective)
        algorithm = config.model.algorithm
        chosen = named_space(space, algorithm, tasks.outputs.objective)
        candidates[algorithm] = Candidate(config=config, space=chosen)
    with shown_progress() as progress:
        found = step.run(
            step.TuneConfig(
                trials=trials, minutes=minutes, stop=stop, seed=configuration.seed or 0
            ),
            candidates,
            workspace,
            tasks,
            device=device,
            processes=processes,
            progress=progress,
        )
    if out is not None:
        folder, _, name = found.recipe.rpartition("/")
        write_file(out, (workspace / folder).read_bytes(name), "--out")
    recipe = str(out) if out is not None else f"{workspace.location}/{found.recipe}"
    data = {**dataclasses.asdict(found), "recipe": recipe}
    return Outcome(data=data, text=_as_text(found, recipe))


def _as_text(found: "Tuned", recipe: str) -> str:
    """Return what was found as Markdown."""
    rows = ["| | loss of the development users |", "| --- | ---: |"]
    rows += [f"| {name}, as it is | {loss:.4f} |" for name, loss in found.as_it_is.items()]
    rows.append(f"| best | **{found.dev_loss:.4f}** |")
    values = [f"- {name}: {value}" for name, value in found.values.items()]
    counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    return "\n".join(
        [f"Trials: {counts}.", "", *rows, "", *values, "", f"`recmeta run --config {recipe}`"]
    )


COMMAND = Command(
    tune,
    examples="""
recmeta tune --trials 30

recmeta tune --learner maml,bayesian-linear --minutes 60 --out mine.toml

recmeta tune --space inner-loop --stop halving --trials 60

recmeta run --dataset ml-100k --config mine.toml
""",
    after="meta-train",
    needs="build-tasks",
)
