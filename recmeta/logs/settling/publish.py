"""A source becomes rows of the tables, with one commit for each table, the interactions' last."""

import dataclasses
import datetime

import polars as pl

from recmeta.logs import tables
from recmeta.logs.checking import conflicts
from recmeta.logs.checking.tally import Tally
from recmeta.logs.settling.next_version import NextVersion
from recmeta.logs.settling.parts import Part, Parts
from recmeta.logs.settling.quarantine import QuarantinedRows, has_rows_of, replace_quarantine
from recmeta.logs.settling.read_source import ReadSource
from recmeta.logs.settling.settle import SettledPart, each_part, settle, settle_into
from recmeta.logs.settling.stored import FILE_NUMBER, ROW, StoredRows, files_that_may_hold
from recmeta.progress import Progress
from recmeta.schema import INTERACTIONS, ITEMS, QUARANTINE, USERS
from recmeta.workspace import Workspace


def tried(found: ReadSource) -> dict[str, int]:
    """Settle the rows of a source, write nothing, and return the counts in an empty workspace."""
    tally = found.rows.tally
    tally.unsettle()
    fate = _Fate()
    for part in each_part(found.rows.good, lambda part: settle(part, tally)[1]):
        fate.add(part)
    return _counts(found, fate)


def publish(
    found: ReadSource,
    source_id: str,
    workspace: Workspace,
    now: datetime.datetime,
    progress: Progress,
    *,
    again: bool,
) -> dict[str, int]:
    """Put the read rows into the current tables, and return the counts.

    Args:
        now: becomes `ingested_at`.
        again: whether the source had been published before, and some of the tables were lost since.

    Raises:
        CommitFailedError: if another writer changed one of the tables meanwhile.
    """
    opened = tables.ingested(workspace)
    counts = tables.ingested_counts(opened[INTERACTIONS], source_id)
    if counts is not None and not again:  # by another writer, meanwhile
        tried(found)
        return counts
    rows = found.rows
    contradicted = QuarantinedRows(rows.good.folder, "contradicted", rows.bad.kept_bytes)
    with NextVersion(workspace, opened[INTERACTIONS]) as version:
        fate = settle_all(rows.good, rows.tally, version, contradicted, source_id, now)
        counts = _counts(found, fate)
        # The interactions last: their commit says that all the rest is written.
        progress("writing", 0, 3)
        if not (again and has_rows_of(opened[QUARANTINE], source_id)):
            quarantined = (rows.bad, contradicted, [found.bad_entities])
            replace_quarantine(opened[QUARANTINE], source_id, quarantined, now)
        progress("writing", 1, 3)
        tables.merge_entities(opened[USERS], USERS, found.users)
        tables.merge_entities(opened[ITEMS], ITEMS, found.items)
        progress("writing", 2, 3)
        if not version.changes_nothing:
            version.commit(tables.ingest_commit(source_id, counts))
        progress("writing", 3, 3)
    return counts


@dataclasses.dataclass(kw_only=True)
class _Fate:
    """What happened to the good rows of a source."""

    accepted: int = 0
    duplicates: int = 0
    superseded: int = 0

    def add(self, part: SettledPart) -> None:
        """Count the rows of a part in."""
        self.accepted += part.num_accepted
        self.duplicates += part.num_duplicates
        self.superseded += part.superseded.height


def settle_all(
    parts: Parts,
    tally: Tally,
    version: NextVersion,
    contradicted: QuarantinedRows,
    source_id: str,
    now: datetime.datetime,
) -> _Fate:
    """Settle the good rows of a source, part by part, into the interactions' next version.

    Args:
        contradicted: gets the rows that lose, of the source and of the table.
    """
    tally.unsettle()
    stored = StoredRows(version.workspace, files_that_may_hold(version.interactions, tally), tally)
    if not parts.are_kept:
        stored.spill(parts.folder)

    def work(part: Part) -> SettledPart:
        return settle_into(part, tally, stored, version, source_id, now)

    fate = _Fate()
    replaced: list[pl.DataFrame] = []
    for part in each_part(parts, work):
        fate.add(part)
        contradicted.add(part.superseded)
        replaced.append(part.replaced)
    places = pl.concat(replaced) if replaced else pl.DataFrame()
    for (number,), rows in places.group_by(FILE_NUMBER) if places.height else ():
        version.take_out(
            stored.files[number], rows[ROW], lambda r: contradicted.add(conflicts.replaced(r))
        )
    return fate


def _counts(found: ReadSource, fate: _Fate) -> dict[str, int]:
    return {
        "rows_read": found.rows.num_rows,
        "accepted": fate.accepted,
        "duplicates": fate.duplicates,
        "quarantined": found.rows.bad.num_rows + fate.superseded,
        "users": found.users.height,
        "items": found.items.height,
    }
