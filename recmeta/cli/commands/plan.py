"""plan: hours, memory, disk and money for a log of a given size."""

from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome
from recmeta.reporting.progress_bars import shown_progress

Number = float | None


def plan(
    common: CommonOptions,
    rows: Annotated[
        Number, typer.Option(metavar="N", help="Interactions in the log, such as 1e9.")
    ] = None,
    users: Annotated[
        Number, typer.Option(metavar="N", help="Users in it. [default: a fortieth of the rows]")
    ] = None,
    items: Annotated[
        Number,
        typer.Option(metavar="N", help="Items. [default: ten times the square root of the rows]"),
    ] = None,
    scored: Annotated[
        Number, typer.Option(metavar="N", help="Users who get a list. [default: all users]")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes of a machine that train, or make lists.")
    ] = 1,
    machines: Annotated[
        int, typer.Option(min=1, help="Machines that make lists, with --engine ray.")
    ] = 1,
    price_per_hour: Annotated[
        float, typer.Option(min=0, help="Of one machine, in any currency.")
    ] = 0.0,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="First run all steps on synthetic logs, some twenty minutes, and keep what they "
            "take on this machine.",
        ),
    ] = False,
) -> Outcome:
    """Predict what each step takes of a log of a given size: hours, memory, disk and money.

    It is a line through runs of small logs, on this machine once it has been measured.
    """
    from recmeta.capacity import kept
    from recmeta.capacity.slopes import Machines, predict, total
    from recmeta.config import to_dict
    from recmeta.errors import UserError

    if rows is None and not measure:
        raise UserError(
            "say how large the log is, for example with --rows 1e9, or use --measure on this "
            "machine."
        )
    size = None if rows is None else kept.size_of(rows, users, items, scored)
    if measure:
        from recmeta.capacity.measure import measure as measured

        with shown_progress() as progress:
            path = kept.keep(measured(progress=progress))
    slopes = kept.slopes()
    if size is None:
        return Outcome(data=to_dict(slopes), text=f"The slopes of this machine are in {path}.")
    on = Machines(workers=workers, machines=machines, price_per_hour=price_per_hour)
    steps = predict(slopes, size, on)
    lines = [
        "| step | CPU hours | hours | memory of a process, GB | disk, GB | cost |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for step in (*steps, total(steps)):
        numbers = (step.cpu_hours, step.hours, step.memory_gb, step.disk_gb, step.cost)
        shown = ("not known" if number is None else f"{number:,.3g}" for number in numbers)
        lines.append(f"| {step.step} | " + " | ".join(shown) + " |")
    beyond = size.rows / min(step.largest_rows for step in slopes.steps.values())
    note = (
        f"Slopes of {slopes.machine}, {slopes.measured_on}; the log is {beyond:,.0f} times as "
        "large as the largest that a model was trained on there."
    )
    data = {
        "size": to_dict(size),
        "machines": to_dict(on),
        "steps": [to_dict(step) for step in steps],
        "total": to_dict(total(steps)),
        "machine": slopes.machine,
        "measured_on": slopes.measured_on,
    }
    return Outcome(data=data, text="\n".join(lines), note=note)


COMMAND = Command(
    plan,
    examples="""
recmeta plan --rows 1e9 --users 2e7 --items 1e6 --workers 16 --price-per-hour 0.8

recmeta plan --measure
""",
    after="doctor",
)
