"""Step 1: a log becomes rows of the interactions, or of the quarantine, and none is lost."""

import dataclasses
import datetime
import functools

import polars as pl
from deltalake import DeltaTable

from recmeta.config import fingerprint
from recmeta.logs import tables, whole
from recmeta.logs.checking import checked, conflicts, contracts
from recmeta.logs.checking.attributes import read_attributes
from recmeta.logs.checking.findings import Findings, check_times, findings
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.logs.reading.files import Inputs, how_read, source_id
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.reading.partitions import mapping_of
from recmeta.logs.whole import TableVersions
from recmeta.manifest import Manifest, Step, find, finished, losses, run_once
from recmeta.progress import Progress, silent
from recmeta.schema import (
    FILE,
    INTERACTIONS,
    ITEMS,
    LINE,
    QUARANTINE,
    SOURCE,
    TABLES,
    USERS,
    Table,
)
from recmeta.steps.data import kept_events
from recmeta.steps.parts import days
from recmeta.workspace import Workspace, check_delta_path, writes


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestOutputs:
    """What ingest leaves."""

    source: str
    """Content id of what was read; the rows bear it."""
    tables: dict[str, int]
    """The tables' versions when it was done."""
    findings: Findings | None = None
    """What the log is like as a whole. None where an earlier version, or a run that was killed, did
    not say."""
    notes: tuple[str, ...] = ()
    """What is perhaps not as it was meant, in sentences. Not stored."""
    came_due: int = 0
    """Rows of earlier logs that were of the future then, and were taken in now. Not stored."""
    num_events: int = 0
    """Events that the endpoint had kept, and that were taken in before the log. Not stored."""


def _versions(outputs: IngestOutputs) -> dict[Table, int]:
    return {t: outputs.tables[t.name] for t in TABLES if t.name in outputs.tables}


STEP = Step("ingest", IngestOutputs, leaves=(TableVersions(_versions),))


@writes
def run(
    mapping: LogMapping,
    workspace: Workspace,
    *,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[IngestOutputs]:
    """Ingest a log, and the users' and items' attributes that come with it; before it, the events
    that the endpoint has kept since the last time.

    Args:
        now: what times are in the future of, and what is written as `ingested_at`. None: the clock.

    Returns:
        The manifest. Its counts are the log's `rows_read` = `accepted` + `duplicates` +
        `quarantined`, and the `users` and `items` read. Two kinds of rows are in the quarantine
        beyond that sum: the table's rows that this log replaced, and rows of users and items
        without a readable id.

    Raises:
        UserError: where the mapping does not fit the files, too many rows are bad, or the tables
            could not be read from the workspace's path.
    """
    num_events = take_in_events(workspace, now=now, progress=progress)["rows_read"]
    manifest = _run(mapping, workspace, now, progress)
    outputs = dataclasses.replace(manifest.outputs, num_events=num_events)
    return dataclasses.replace(manifest, outputs=outputs)


@writes
def take_in_events(
    workspace: Workspace,
    *,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> dict[str, int]:
    """Put the events that the endpoint has kept into the interactions, each once; return the
    counts: `rows_read` = `accepted` + `duplicates` + `quarantined`."""
    return kept_events.take_in(workspace, lambda log: _run(log, workspace, now, progress).counts)


def _run(
    mapping: LogMapping, workspace: Workspace, now: datetime.datetime | None, progress: Progress
) -> Manifest[IngestOutputs]:
    if workspace.is_local:
        check_delta_path(workspace.path, "the workspace")
    came_due = 0 if _lost_tables(workspace) else take_in_what_came_due(workspace, now=now)
    inputs = Inputs.of(mapping)
    source = source_id(mapping, inputs)
    clock = now or datetime.datetime.now(datetime.UTC)

    config, read = {"mapping": how_read(mapping)}, {"source": source}
    done = find(workspace, STEP, fingerprint(STEP, config, read))
    is_lost = done is not None and bool(losses(workspace, STEP, done))

    notes: tuple[str, ...] = ()

    def work(_: str) -> tuple[IngestOutputs, dict[str, int]]:
        nonlocal notes
        tables.create_tables(workspace)
        # Killed between the commit and the manifest? Then the commit knows the counts.
        counts = tables.ingested_counts(tables.open_table(workspace, INTERACTIONS), source)
        striking = None
        if counts is None or is_lost:
            found = _read(mapping, inputs, source, workspace, clock, progress)
            published = tables.redo(
                workspace,
                lambda: _publish(found, source, workspace, clock, progress, again=is_lost),
            )
            counts, striking = counts or published, found.findings
            # They may name users, who can ask to be forgotten: they are told, and not kept.
            notes = found.notes
        left = IngestOutputs(source=source, tables=tables.versions(workspace), findings=striking)
        return left, counts

    manifest = run_once(workspace, STEP, config=config, inputs=read, work=work)
    outputs = dataclasses.replace(manifest.outputs, came_due=came_due, notes=notes)
    return dataclasses.replace(manifest, outputs=outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tried:
    """What an ingest would find in an empty workspace."""

    counts: dict[str, int]
    """As `run` counts."""
    findings: Findings
    notes: tuple[str, ...]


def dry_run(
    mapping: LogMapping, *, now: datetime.datetime | None = None, progress: Progress = silent
) -> Tried:
    """Read and check a log as `run` does, and write nothing.

    Raises:
        UserError: as `run`.
    """
    clock = now or datetime.datetime.now(datetime.UTC)
    inputs = Inputs.of(mapping)
    good, bad = checked.read_log(mapping, inputs.log, clock, progress)
    if checked.is_too_bad(mapping, good, bad):
        raise checked.too_bad(mapping, good, bad, "no table: nothing was written", inputs.log)
    found = _found(mapping, inputs, good, bad)
    superseded = found.settled.superseded.height
    counts = {
        "rows_read": good.height + bad.height,
        "accepted": found.settled.rows.height,
        "duplicates": found.settled.num_duplicates,
        "quarantined": bad.height + superseded,
        "users": found.users.height,
        "items": found.items.height,
    }
    return Tried(counts=counts, findings=found.findings, notes=found.notes)


def _lost_tables(workspace: Workspace) -> list[Table]:
    """Return which of the tables are not there, or not yet.

    Raises:
        Broken: where one of the others lacks files.
    """
    there = [t for t in tables.INGESTED if whole.is_made(workspace, t)]
    for table in there:
        whole.check(workspace, table)
    return [table for table in tables.INGESTED if table not in there]


@writes
def take_in_what_came_due(workspace: Workspace, *, now: datetime.datetime | None = None) -> int:
    """Move rows that nothing but their time kept out from the quarantine to the interactions, once
    their time has come.

    Args:
        now: None: the clock.

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
    return sum(
        tables.redo(workspace, functools.partial(_take_in, workspace, source, clock))
        for source in sorted(sources)
    )


def _take_in(workspace: Workspace, source: str, now: datetime.datetime) -> int:
    opened = tables.ingested(workspace)
    quarantine, interactions = opened[QUARANTINE], opened[INTERACTIONS]
    of_source = pl.scan_delta(quarantine).filter(pl.col(SOURCE) == source)
    due = of_source.filter(contracts.has_come_due(now)).collect()
    if not due.height:
        return 0
    kept = of_source.filter(~contracts.has_come_due(now)).collect()
    settled = conflicts.settle(due.sort(FILE, LINE))
    changes = conflicts.compare(settled.rows, pl.scan_delta(interactions))
    columns = conflicts.NONE_QUARANTINED.columns
    contradicted = [
        conflicts.superseded(settled.superseded),
        conflicts.replaced(changes.replaced),
    ]
    left = pl.concat([kept.select(columns), *contradicted]).unique()
    # What is replaced is written down first; what is taken in leaves the quarantine last.
    if any(rows.height for rows in contradicted):
        both = pl.concat([left, due.select(columns)])
        tables.replace_quarantine(quarantine, source, both, now)
    tables.merge_interactions(interactions, source, changes, None, now)
    tables.replace_quarantine(quarantine, source, left, now)
    return due.height


@writes
def run_day(
    mapping: LogMapping,
    day: datetime.date,
    workspace: Workspace,
    *,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[IngestOutputs]:
    """Ingest one day's partition and note that the day is done.

    Raises:
        UserError: as `run` does.
    """
    manifest = run(mapping_of(mapping, day), workspace, now=now, progress=progress)
    days.note(workspace, day, key=manifest.key, source=manifest.outputs.source)
    return manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    """What the files of a source hold."""

    settled: conflicts.Settled
    num_good: int
    """Rows that keep every rule."""
    bad: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    bad_entities: pl.DataFrame
    """Rows of users and items without a readable id."""
    findings: Findings
    notes: tuple[str, ...]


def _read(
    mapping: LogMapping,
    inputs: Inputs,
    source: str,
    workspace: Workspace,
    now: datetime.datetime,
    progress: Progress,
) -> _Found:
    """Read the files and check their rows.

    Raises:
        UserError: where too many rows are bad, which are in the quarantine then, or most times are
            of long ago.
    """
    good, bad = checked.read_log(mapping, inputs.log, now, progress)
    if checked.is_too_bad(mapping, good, bad):
        tables.redo(
            workspace,
            lambda: tables.replace_quarantine(
                tables.open_table(workspace, QUARANTINE), source, bad, now
            ),
        )
        place = f"{workspace.table_uri(QUARANTINE)} (source {source!r})"
        raise checked.too_bad(mapping, good, bad, place, inputs.log)
    return _found(mapping, inputs, good, bad)


def _found(mapping: LogMapping, inputs: Inputs, good: pl.DataFrame, bad: pl.DataFrame) -> _Found:
    """Return what a log holds, of which the rows are parted already.

    Raises:
        UserError: where most times are of long ago, or the attributes cannot be read.
    """
    check_times(mapping, good)
    users, bad_users = _entities(mapping.users, inputs.users, USERS)
    items, bad_items = _entities(mapping.items, inputs.items, ITEMS)
    settled = conflicts.settle(good)
    striking, notes = findings(mapping, good, settled.rows, users, items)
    notes += checked.passed_over(inputs.log)
    return _Found(
        settled=settled,
        num_good=good.height,
        bad=bad,
        users=users,
        items=items,
        bad_entities=pl.concat([bad_users, bad_items]),
        findings=striking,
        notes=notes,
    )


def _publish(
    found: _Found,
    source: str,
    workspace: Workspace,
    now: datetime.datetime,
    progress: Progress,
    *,
    again: bool,
) -> dict[str, int]:
    """Put what was read into the tables as they stand now, and return the counts.

    Args:
        again: whether it had been, and some of the tables were lost since.

    Raises:
        CommitFailedError: where another writer changed one of the tables meanwhile.
    """
    opened = tables.ingested(workspace)
    interactions: DeltaTable = opened[INTERACTIONS]
    counts = tables.ingested_counts(interactions, source)
    if counts is not None and not again:  # by another writer, meanwhile
        return counts
    settled = found.settled
    changes = conflicts.compare(settled.rows, pl.scan_delta(interactions))
    superseded = conflicts.superseded(settled.superseded)
    replaced = conflicts.replaced(changes.replaced)
    counts = {
        "rows_read": found.num_good + found.bad.height,
        "accepted": changes.new.height + changes.replacing.height,
        "duplicates": settled.num_duplicates + changes.num_duplicates,
        "quarantined": found.bad.height + superseded.height,
        "users": found.users.height,
        "items": found.items.height,
    }
    # The interactions last: their commit says that all the rest is written.
    quarantined = pl.concat([found.bad, superseded, replaced, found.bad_entities])
    progress("writing", 0, 3)
    if not (again and tables.has_rows_of(opened[QUARANTINE], source)):
        tables.replace_quarantine(opened[QUARANTINE], source, quarantined, now)
    progress("writing", 1, 3)
    tables.merge_entities(opened[USERS], USERS, found.users)
    tables.merge_entities(opened[ITEMS], ITEMS, found.items)
    progress("writing", 2, 3)
    tables.merge_interactions(interactions, source, changes, counts, now)
    progress("writing", 3, 3)
    return counts


def _entities(
    source: AttributeSource | None, files: list[SourceFile], table: Table
) -> tuple[pl.DataFrame, pl.DataFrame]:
    if source is None:
        return tables.empty(table), conflicts.NONE_QUARANTINED
    return read_attributes(source, files, table.key[0])
