"""maintain: what nobody needs any more goes, and small files become few."""

from typing import Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list


def maintain(
    common: CommonOptions,
    recommendation_days: Annotated[
        int | None,
        typer.Option(metavar="DAYS", help="Delete lists that are older. [default: 90]"),
    ] = None,
    recommendation_runs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Keep N runs of lists beside those published for a day, and those of the last 24 "
            "hours. [default: all that are young enough]",
        ),
    ] = None,
    state_days: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS", help="Delete adapted users' states that are older. [default: 14]"
        ),
    ] = None,
    event_days: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS",
            help="Delete events of `recmeta serve --history` that have been in the log for longer. "
            "[default: 14]",
        ),
    ] = None,
    vacuum_days: Annotated[
        int | None,
        typer.Option(
            metavar="DAYS",
            help="Delete files that no version of a table needs and that are older. [default: 7]",
        ),
    ] = None,
    min_files: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Compact only tables that have at least N files. [default: 16]",
        ),
    ] = None,
) -> Outcome:
    """Delete what is past its time and compact the tables, as the maintenance DAG does.

    Interactions, the quarantine, models and what they were trained on are never deleted.
    """
    from recmeta.config import parse
    from recmeta.steps.upkeep import maintenance

    given: dict[str, Any] = {
        "recommendation_days": recommendation_days,
        "recommendation_runs": recommendation_runs,
        "state_days": state_days,
        "event_days": event_days,
        "vacuum_days": vacuum_days,
    }
    limits = parse(maintenance.MaintenanceConfig, {n: v for n, v in given.items() if v is not None})
    workspace = common.open_workspace()
    workspace.require_made()
    data = {
        "expired": maintenance.expire(workspace, limits),
        "fewer_files": maintenance.optimise(workspace, min_files or maintenance.MIN_FILES),
        "deleted_files": maintenance.vacuum(workspace, limits),
    }
    flat = {
        f"{name} of {table}" if name != "expired" else f"expired {table}": count
        for name, counts in data.items()
        for table, count in counts.items()
    }
    return Outcome(data=data, text=as_list(flat))


COMMAND = Command(
    maintain,
    examples="""
recmeta maintain

recmeta maintain --recommendation-runs 10 --min-files 4 --workspace ws
""",
    after="backup",
)
