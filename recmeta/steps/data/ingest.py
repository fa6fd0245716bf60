"""Step 1: a log becomes rows of the interactions, or of the quarantine, and none is lost."""

import dataclasses
import datetime

import polars as pl

from recmeta.logs import tables
from recmeta.logs.checking import checked, conflicts
from recmeta.logs.checking.attributes import read_attributes
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.logs.reading.files import Inputs, how_read, source_id
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.reading.partitions import mapping_of
from recmeta.logs.whole import TableVersions
from recmeta.manifest import Manifest, Step, run_once
from recmeta.progress import Progress, silent
from recmeta.schema import INTERACTIONS, ITEM_ID, ITEMS, QUARANTINE, TABLES, USER_ID, USERS, Table
from recmeta.steps.parts import days
from recmeta.workspace import Workspace, check_delta_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class IngestOutputs:
    """What ingest leaves."""

    source: str
    """Content id of what was read; the rows bear it."""
    tables: dict[str, int]
    """The tables' versions when it was done."""


def _versions(outputs: IngestOutputs) -> dict[Table, int]:
    return {t: outputs.tables[t.name] for t in TABLES if t.name in outputs.tables}


STEP = Step("ingest", IngestOutputs, leaves=(TableVersions(_versions),))


def run(
    mapping: LogMapping,
    workspace: Workspace,
    *,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest[IngestOutputs]:
    """Ingest a log, and the users' and items' attributes that come with it.

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
    if workspace.is_local:
        check_delta_path(workspace.path, "the workspace")
    inputs = Inputs.of(mapping)
    source = source_id(mapping, inputs)
    clock = now or datetime.datetime.now(datetime.UTC)

    def work(_: str) -> tuple[IngestOutputs, dict[str, int]]:
        tables.create_tables(workspace)
        # Killed between the commit and the manifest? Then the commit knows the counts.
        counts = tables.ingested_counts(workspace, source)
        if counts is None:
            counts = _ingest(mapping, inputs, source, workspace, clock, progress)
        return IngestOutputs(source=source, tables=tables.versions(workspace)), counts

    config = {"mapping": how_read(mapping)}
    return run_once(workspace, STEP, config=config, inputs={"source": source}, work=work)


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


def _ingest(
    mapping: LogMapping,
    inputs: Inputs,
    source: str,
    workspace: Workspace,
    now: datetime.datetime,
    progress: Progress,
) -> dict[str, int]:
    good, rejected = checked.read_log(mapping, inputs.log, now, progress)
    bad = rejected.drop(USER_ID, ITEM_ID)
    if checked.is_too_bad(mapping, good, bad):
        tables.replace_quarantine(workspace, source, bad, now)
        place = f"{workspace.table_uri(QUARANTINE)} (source {source!r})"
        raise checked.too_bad(mapping, good, bad, place)

    settled, num_good = conflicts.settle(good), good.height
    del good  # its text would be in memory while the table is written
    changes = conflicts.compare(settled.rows, tables.scan(workspace, INTERACTIONS))
    users, bad_users = _entities(mapping.users, inputs.users, USERS)
    items, bad_items = _entities(mapping.items, inputs.items, ITEMS)
    superseded = conflicts.superseded(settled.superseded)
    replaced = conflicts.replaced(changes.replaced)
    counts = {
        "rows_read": num_good + bad.height,
        "accepted": changes.new.height + changes.replacing.height,
        "duplicates": settled.num_duplicates + changes.num_duplicates,
        "quarantined": bad.height + superseded.height,
        "users": users.height,
        "items": items.height,
    }
    # The interactions last: their commit says that all the rest is written.
    quarantined = pl.concat([bad, superseded, replaced, bad_users, bad_items])
    progress("writing", 0, 3)
    tables.replace_quarantine(workspace, source, quarantined, now)
    progress("writing", 1, 3)
    tables.merge_entities(workspace, USERS, users)
    tables.merge_entities(workspace, ITEMS, items)
    progress("writing", 2, 3)
    tables.merge_interactions(workspace, source, changes, counts, now)
    progress("writing", 3, 3)
    return counts


def _entities(
    source: AttributeSource | None, files: list[SourceFile], table: Table
) -> tuple[pl.DataFrame, pl.DataFrame]:
    if source is None:
        return tables.empty(table), conflicts.NONE_QUARANTINED
    return read_attributes(source, files, table.key[0])
