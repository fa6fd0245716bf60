"""Step 1: a log becomes rows of the interactions, or of the quarantine, and none is lost."""

import dataclasses
import datetime
import functools
import tempfile
from collections.abc import Sequence

import polars as pl

from recmeta.config import fingerprint
from recmeta.logs import tables, whole
from recmeta.logs.checking import checked, contracts
from recmeta.logs.checking.findings import Findings
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import Inputs, how_read, source_id
from recmeta.logs.reading.partitions import mapping_of
from recmeta.logs.settling.budget import Budget, IngestConfig
from recmeta.logs.settling.came_due import take_in
from recmeta.logs.settling.publish import publish, tried
from recmeta.logs.settling.quarantine import replace_quarantine
from recmeta.logs.settling.read_source import ReadSource, Rows, read_rows
from recmeta.logs.whole import TableVersions
from recmeta.manifest import Manifest, find, finished, losses, run_once
from recmeta.progress import Progress, silent
from recmeta.records.step_definition import Step
from recmeta.schema import INTERACTIONS, QUARANTINE, SOURCE, TABLES, Table
from recmeta.steps.data import kept_events
from recmeta.steps.parts import days
from recmeta.workspace import Workspace, check_delta_path, format_version, writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestOutputs:
    """The outputs of ingest."""

    source: str
    """Content id of the source, which its rows carry."""
    tables: dict[str, int]
    """The tables' versions after the ingest."""
    findings: Findings | None = None
    """Figures of the log as a whole. None if an earlier version, or a run that was killed, did not
    record them."""
    notes: tuple[str, ...] = ()
    """Sentences on what is perhaps not as intended. Not stored."""
    came_due: int = 0
    """Rows of earlier logs that were in the future then, and were ingested now. Not stored."""
    num_events: int = 0
    """Events that the endpoint had kept, and that were ingested before the log. Not stored."""


def _versions(outputs: IngestOutputs) -> dict[Table, int]:
    return {t: outputs.tables[t.name] for t in TABLES if t.name in outputs.tables}


STEP = Step("ingest", IngestOutputs, leaves=(TableVersions(_versions),))


@writes
def run(
    mapping: LogMapping,
    workspace: Workspace,
    *,
    config: IngestConfig | None = None,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[IngestOutputs]:
    """Ingest a log, and the users' and items' attributes that come with it; before it, the events
    that the endpoint has kept since the last time.

    Args:
        config: how to ingest; it is not part of the step's key, since the tables do not depend on
            it. If None, the default.
        now: times more than a day after it are in the future; also written as `ingested_at`. If
            None, the current time.

    Returns:
        The manifest. Its counts are the log's `rows_read` = `accepted` + `duplicates` +
        `quarantined`, and the `users` and `items` read. Two kinds of rows are in the quarantine
        beyond that sum: the table's rows that this log replaced, and rows of users and items
        without a readable id.

    Raises:
        UserError: if the mapping does not fit the files, too many rows are bad, or the tables could
            not be read from the workspace's path.
    """
    how = config or IngestConfig()
    taken_in, came_due = _take_in_events(workspace, how, now, progress)
    manifest = _run(mapping, workspace, how, now, progress)
    outputs = dataclasses.replace(
        manifest.outputs,
        num_events=taken_in["rows_read"],
        came_due=came_due + manifest.outputs.came_due,
    )
    return dataclasses.replace(manifest, outputs=outputs)


@writes
def take_in_events(
    workspace: Workspace,
    *,
    config: IngestConfig | None = None,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> dict[str, int]:
    """Add the events that the endpoint has kept to the interactions, each once, and return the
    counts: `rows_read` = `accepted` + `duplicates` + `quarantined`."""
    counts, _ = _take_in_events(workspace, config or IngestConfig(), now, progress)
    return counts


def _take_in_events(
    workspace: Workspace, how: IngestConfig, now: datetime.datetime | None, progress: Progress
) -> tuple[dict[str, int], int]:
    """Return what `take_in_events` does, and how many rows of earlier logs came due with it."""
    came_due = 0

    def ingest(log: LogMapping) -> dict[str, int]:
        nonlocal came_due
        done = _run(log, workspace, how, now, progress)
        came_due += done.outputs.came_due
        return done.counts

    counts = kept_events.take_in(workspace, ingest)
    return counts, came_due


def _run(
    mapping: LogMapping,
    workspace: Workspace,
    how: IngestConfig,
    now: datetime.datetime | None,
    progress: Progress,
) -> Manifest[IngestOutputs]:
    if workspace.is_local:
        check_delta_path(workspace.path, "the workspace")
    came_due = 0
    if not _lost_tables(workspace):
        came_due = take_in_what_came_due(workspace, config=how, now=now)
    inputs = Inputs.of(mapping)
    source = source_id(mapping, inputs)
    clock = now or datetime.datetime.now(datetime.UTC)

    key, read = {"mapping": how_read(mapping)}, {"source": source}
    done = find(workspace, STEP, fingerprint(STEP, key, read))
    is_lost = done is not None and bool(losses(workspace, STEP, done))

    notes: tuple[str, ...] = ()

    def work(_: str) -> tuple[IngestOutputs, dict[str, int]]:
        nonlocal notes
        # Killed between the commit and the manifest? Then the commit knows the counts.
        counts = None
        if tables.is_there(workspace, INTERACTIONS):
            counts = tables.ingested_counts(tables.opened(workspace, INTERACTIONS), source)
        striking = None
        if counts is None or is_lost:
            with workspace.temporary_folder() as folder:
                rows = read_rows(
                    mapping, inputs.log, clock, progress, folder=folder, budget=Budget.of(how)
                )
                _check_share(mapping, inputs, rows, source, workspace, clock)
                found = ReadSource.of(mapping, inputs, rows)
                _make(workspace, tables.INGESTED)  # a log that is refused leaves none behind
                published = tables.redo(
                    workspace,
                    lambda: publish(found, source, workspace, clock, progress, again=is_lost),
                )
                counts = counts or published
                # The notes may name users, who can ask to be forgotten: they are printed, not
                # stored.
                striking, notes = found.findings(counts["quarantined"])
        else:
            _make(workspace, tables.INGESTED)
        left = IngestOutputs(source=source, tables=tables.versions(workspace), findings=striking)
        return left, counts

    manifest = run_once(workspace, STEP, config=key, inputs=read, work=work)
    outputs = dataclasses.replace(manifest.outputs, came_due=came_due, notes=notes)
    return dataclasses.replace(manifest, outputs=outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """The result of an ingest into an empty workspace."""

    counts: dict[str, int]
    """As `run` counts."""
    findings: Findings
    notes: tuple[str, ...]


def dry_run(
    mapping: LogMapping,
    *,
    config: IngestConfig | None = None,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Tried:
    """Read and check a log as `run` does, and write nothing.

    Raises:
        UserError: as `run`.
    """
    clock = now or datetime.datetime.now(datetime.UTC)
    inputs, budget = Inputs.of(mapping), Budget.of(config or IngestConfig())
    with tempfile.TemporaryDirectory(prefix="recmeta-") as folder:
        rows = read_rows(mapping, inputs.log, clock, progress, folder=folder, budget=budget)
        if checked.is_too_bad(mapping, rows.good.num_rows, rows.bad.num_rows):
            place = "no table: nothing was written"
            raise checked.too_bad(mapping, rows.good.num_rows, rows.rejected, place, inputs.log)
        found = ReadSource.of(mapping, inputs, rows)
        counts = tried(found)
        striking, notes = found.findings(counts["quarantined"])
    return Tried(counts=counts, findings=striking, notes=notes)


def _check_share(
    mapping: LogMapping,
    inputs: Inputs,
    rows: Rows,
    source: str,
    workspace: Workspace,
    now: datetime.datetime,
) -> None:
    """Raise UserError if too many rows are bad; they are then in the quarantine."""
    if not checked.is_too_bad(mapping, rows.good.num_rows, rows.bad.num_rows):
        return
    _make(workspace, [QUARANTINE])
    tables.redo(
        workspace,
        lambda: replace_quarantine(
            tables.open_table(workspace, QUARANTINE), source, [rows.bad], now
        ),
    )
    place = f"{workspace.table_uri(QUARANTINE)} (source {source!r})"
    raise checked.too_bad(mapping, rows.good.num_rows, rows.rejected, place, inputs.log)


def _make(workspace: Workspace, which: Sequence[Table]) -> None:
    """Make tables where they are not there yet; with the first, the workspace gets its format."""
    if not workspace.exists("tables"):
        format_version.write(workspace)
    tables.create_tables(workspace, which)


def _lost_tables(workspace: Workspace) -> list[Table]:
    """Return which of the tables do not exist, or do not exist yet.

    Raises:
        Broken: if one of the other tables lacks files.
    """
    there = [t for t in tables.INGESTED if whole.is_made(workspace, t)]
    for table in there:
        whole.check(workspace, table)
    return [table for table in tables.INGESTED if table not in there]


@writes
def take_in_what_came_due(
    workspace: Workspace,
    *,
    config: IngestConfig | None = None,
    now: datetime.datetime | None = None,
) -> int:
    """Move rows whose only fault was a time in the future from the quarantine to the interactions,
    once their time has come.

    Args:
        config: how to ingest. If None, the default.
        now: if None, the current time.

    Returns:
        How many left the quarantine.
    """
    if not workspace.exists(f"tables/{QUARANTINE.name}"):
        return 0
    clock = now or datetime.datetime.now(datetime.UTC)
    tables.create(workspace, QUARANTINE)  # one of an earlier version gets its columns
    due = tables.scan(workspace, QUARANTINE).filter(contracts.has_come_due(clock))
    sources = set(due.select(pl.col(SOURCE).unique()).collect().to_series())
    if sources:  # a log that was refused brings nothing
        sources &= {manifest.outputs.source for manifest in finished(workspace, STEP)}
    budget = Budget.of(config or IngestConfig())
    return sum(
        tables.redo(workspace, functools.partial(take_in, workspace, source, clock, budget))
        for source in sorted(sources)
    )


@writes
def run_day(
    mapping: LogMapping,
    day: datetime.date,
    workspace: Workspace,
    *,
    config: IngestConfig | None = None,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[IngestOutputs]:
    """Ingest one day's partition and note that the day is done.

    Raises:
        UserError: as `run` does.
    """
    manifest = run(mapping_of(mapping, day), workspace, config=config, now=now, progress=progress)
    days.note(workspace, day, key=manifest.key, source=manifest.outputs.source)
    return manifest
