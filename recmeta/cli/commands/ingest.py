"""ingest: a log into the interactions table."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import AttributeOptions, CommonOptions, LogOptions
from recmeta.cli.output import Outcome, as_list
from recmeta.reporting.progress_bars import shown_progress

if TYPE_CHECKING:
    from recmeta.cli.proposals import Proposed
    from recmeta.logs.checking.findings import Findings
    from recmeta.logs.mapping import LogMapping
    from recmeta.logs.settling.budget import IngestConfig
    from recmeta.progress import Progress

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        help="ml-100k, ml-1m or book-crossing (fetched), a .toml mapping, or the path or URL of a "
        "CSV, TSV, JSON lines, Parquet or Delta log.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Read and check the log, show ten rows as they would be read, and write nothing.",
    ),
]
Memory = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="The most memory to take, such as 1GiB or 8GiB, whatever the size of the log. Rows "
        "that do not fit are kept on disk meanwhile.",
    ),
]


def ingest(
    common: CommonOptions,
    log: LogOptions,
    attributes: AttributeOptions,
    source: SourceArgument = None,
    dry_run: DryRun = False,
    events: Annotated[
        bool,
        typer.Option("--events", help="Ingest only the events that the endpoint has kept."),
    ] = False,
    memory: Memory = "2GiB",
) -> Outcome:
    """Put a log into the interactions table; rows that break a rule go to the quarantine.

    Ingesting a log twice changes nothing. accepted + duplicates + quarantined = rows read. Before
    a log, the events that `recmeta serve --history` has kept since are taken in.

    Of a file without the columns user_id and item_id, and of which no option says anything, it
    proposes how to read it: the columns by their names and what they hold, the format of the times,
    the scale, the separator. It shows ten rows as they would be read and the command that does so.

    In a file that --users or --items names, every column is an attribute. One that is named
    title, name, description, text, url or link, or whose values nearly all differ, is text; one
    with lists, or with | between values, multi-valued; one with numbers alone, numeric; any other,
    categorical. A mapping file says it otherwise.
    """
    from recmeta.cli.mappings import hint_on_unread, kinds_found, log_mapping, unread_columns
    from recmeta.cli.proposals import proposal_for
    from recmeta.logs.settling.budget import IngestConfig

    config = IngestConfig(memory=memory)
    if events:
        return _events(common, source, config, dry_run=dry_run)
    proposed = proposal_for(source, log, attributes, always=dry_run)
    if proposed is not None:
        return _proposed(proposed, is_error=not dry_run)
    workspace = common.open_workspace()
    with shown_progress() as progress:
        mapping = log_mapping(source, log, attributes, progress)
        if dry_run:
            return _tried(mapping, config, progress)
        from recmeta.steps.data import ingest as step

        manifest = step.run(mapping, workspace, config=config, progress=progress)
    counts = dict(manifest.counts)
    if manifest.reused:  # the counts are those of the call that did the work
        counts["duplicates"] += counts["accepted"]
        counts["accepted"] = 0
    kinds, found = kinds_found(mapping), manifest.outputs.findings
    data = {
        **counts,
        "came_due": manifest.outputs.came_due,
        "events": manifest.outputs.num_events,
        "reused": manifest.reused,
        "attributes": kinds,
        "unread_columns": unread_columns(mapping),
        "findings": None if found is None else dataclasses.asdict(found),
        "notes": list(manifest.outputs.notes),
        "source": manifest.outputs.source,
        "tables": manifest.outputs.tables,
    }
    attributes_found = [
        f"- attributes of {name}: " + ", ".join(f"{a} ({kind})" for a, kind in found.items())
        for name, found in kinds.items()
    ]
    text = "\n".join([as_list(counts), *_figures(found), *attributes_found])
    notes = ["This log had been ingested before; nothing changed."] if manifest.reused else []
    if manifest.outputs.came_due:
        notes.append(
            f"{manifest.outputs.came_due} rows of earlier logs, whose times were in the future "
            "then, have left the quarantine."
        )
    if manifest.outputs.num_events:
        number = manifest.outputs.num_events
        kept = "1 event" if number == 1 else f"{number:,} events"
        notes.append(f"{kept} that the endpoint had kept came into the log, too.")
    notes += [hint_on_unread(mapping), *manifest.outputs.notes]
    return Outcome(data=data, text=text, note="\n".join(filter(None, notes)))


def _events(
    common: CommonOptions, source: str | None, config: "IngestConfig", *, dry_run: bool
) -> Outcome:
    """Take in the endpoint's events alone."""
    from recmeta.errors import UserError
    from recmeta.steps.data import ingest as step

    if source is not None:
        raise UserError("--events reads no log: leave out one of the two.")
    if dry_run:
        raise UserError(
            "--events cannot be combined with --dry-run: events were checked when they arrived."
        )
    with shown_progress() as progress:
        workspace = common.open_workspace()
        counts = step.take_in_events(workspace, config=config, progress=progress)
    note = "" if counts["rows_read"] else "The endpoint has kept no event since the last time."
    return Outcome(data=counts, text=as_list(counts), note=note)


def _proposed(proposed: "Proposed", *, is_error: bool) -> Outcome:
    """Return what to say of a log of which no option says how it is read."""
    lines = ["It may be read so:", "", *proposed.lines, "", f"    {proposed.command}", ""]
    data = {
        "proposal": proposed.options,
        "columns": proposed.columns,
        "rows": proposed.rows,
        "command": proposed.command,
        "notes": list(proposed.notes),
    }
    note = " ".join([*proposed.notes, "Nothing was ingested."])
    if is_error:
        note += " Columns named user_id and item_id would be read as they are."
    text = "\n".join([*lines, proposed.table])
    return Outcome(data=data, text=text, note=note, exit_code=2 if is_error else 0)


def _tried(mapping: "LogMapping", config: "IngestConfig", progress: "Progress") -> Outcome:
    """Return what ingest would find, without a workspace."""
    from recmeta.cli.proposals import rows_of, table_of
    from recmeta.steps.data import ingest as step

    tried = step.dry_run(mapping, config=config, progress=progress)
    rows = rows_of(mapping)
    data = {
        **tried.counts,
        "findings": dataclasses.asdict(tried.findings),
        "notes": list(tried.notes),
        "rows": rows,
        "dry_run": True,
    }
    text = "\n".join([as_list(tried.counts), *_figures(tried.findings), "", table_of(rows)])
    return Outcome(data=data, text=text, note="\n".join(["Nothing was written.", *tried.notes]))


def _figures(found: "Findings | None") -> list[str]:
    """Return what a log is like as a whole, in lines."""
    if found is None:
        return []
    lines = [f"- {found.num_users:,} users, {found.num_items:,} items"]
    for name, known, total in (
        ("users", found.users_known, found.num_users),
        ("items", found.items_known, found.num_items),
    ):
        if known is not None:
            lines.append(f"- {known:,} of the log's {total:,} {name} have attributes")
    if found.first_time is not None:
        lines.append(f"- times from {found.first_time} to {found.last_time}")
    return lines


COMMAND = Command(
    ingest,
    examples="""
recmeta ingest ml-100k

recmeta ingest events.csv --dry-run

recmeta ingest events.csv --user-col uid --item-col sku --time-col ts --value-col stars --scale 1:5

recmeta ingest clicks.jsonl --user-col u --item-col i --time-col at --time-unit iso --event view

recmeta ingest --mapping shop.toml

recmeta ingest s3://logs/clicks/ --user-col u --item-col i --event click --memory 8GiB

recmeta ingest --events
""",
    steps=("ingest",),
)
