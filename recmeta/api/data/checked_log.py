"""A log that was checked in memory, by the rules by which `recmeta ingest` checks one."""

import dataclasses
import datetime
import warnings

import polars as pl

from recmeta import schema
from recmeta.api.data.log_frames import INTERACTIONS, LogFrames
from recmeta.errors import UserError
from recmeta.logs.checking import checked, conflicts, contracts
from recmeta.logs.checking.attributes import attributes_in_frame, read_attributes
from recmeta.logs.checking.findings import check_times, findings
from recmeta.logs.checking.tally import Tally
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.logs.reading.files import Inputs
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.reading.sources import read_frame
from recmeta.progress import Progress

Attributes = tuple[pl.DataFrame, pl.DataFrame]
"""The attributes that keep every rule, and the rows that do not, as in the quarantine."""
COLUMNS = [
    name
    for name in schema.INTERACTIONS.columns.names
    if name not in (schema.SOURCE, schema.INGESTED_AT)
]
PLACE_OF_BAD = "`.quarantine` of a Dataset that is made with max_bad_share=1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogCounts:
    """The counts of a log's rows: `rows_read` = `accepted` + `duplicates` + `quarantined`."""

    rows_read: int
    accepted: int
    duplicates: int
    """The number of rows that repeat another one, with the same user, item, time, kind and
    value."""
    quarantined: int
    """The number of rows that break a rule, or that a later row with another value contradicts."""
    users: int
    """The number of rows of users' attributes."""
    items: int
    """The number of rows of items' attributes."""


@dataclasses.dataclass(frozen=True)
class CheckedLog:
    """The rows that keep every rule, users and items, and the rows that do not."""

    rows: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    quarantine: pl.DataFrame
    counts: LogCounts


def check_frames(log: LogFrames) -> CheckedLog:
    """Return the checked rows of frames.

    Raises:
        UserError: if too many rows are bad, none is good, or the times are too early.

    Warns:
        UserWarning: if something is striking about the log as a whole.
    """
    mapping = log.mapping
    now = datetime.datetime.now(datetime.UTC)
    wanted = contracts.wanted_columns(mapping)
    parts = (
        contracts.check(batch, mapping, now)
        for batch in read_frame(log.interactions, INTERACTIONS, wanted)
    )
    good, bad = zip(*parts, strict=True)
    users = _attributes_of(mapping.users, log.users, schema.USERS)
    items = _attributes_of(mapping.items, log.items, schema.ITEMS)
    return _checked(mapping, pl.concat(good), pl.concat(bad), users, items)


def check_files(mapping: LogMapping, progress: Progress) -> CheckedLog:
    """Return the checked rows of the files that a mapping describes; as `check_frames`."""
    inputs = Inputs.of(mapping)
    now = datetime.datetime.now(datetime.UTC)
    good, bad = checked.read_log(mapping, inputs.log, now, progress)
    users = _read_attributes(mapping.users, inputs.users, schema.USERS)
    items = _read_attributes(mapping.items, inputs.items, schema.ITEMS)
    return _checked(mapping, good, bad, users, items)


def _checked(
    mapping: LogMapping,
    good: pl.DataFrame,
    bad: pl.DataFrame,
    users: Attributes,
    items: Attributes,
) -> CheckedLog:
    if checked.is_too_bad(mapping, good.height, bad.height):
        rejected = checked.Rejected.of(bad)
        raise checked.too_bad(mapping, good.height, rejected, PLACE_OF_BAD)
    settled = conflicts.settle(good)
    tally = Tally.of(mapping, good, settled)
    check_times(mapping, tally)
    superseded = conflicts.superseded(settled.superseded)
    counts = LogCounts(
        rows_read=good.height + bad.height,
        accepted=settled.rows.height,
        duplicates=settled.num_duplicates,
        quarantined=bad.height + superseded.height,
        users=users[0].height,
        items=items[0].height,
    )
    if not counts.accepted:
        raise UserError("the log has no row that keeps the rules: see max_bad_share.")
    _, notes = findings(mapping, tally, users[0], items[0])
    if notes:
        warnings.warn(" ".join(notes), stacklevel=4)
    return CheckedLog(
        settled.rows.select(COLUMNS),
        users[0],
        items[0],
        pl.concat([bad, superseded, users[1], items[1]]),
        counts,
    )


def _attributes_of(
    source: AttributeSource | None, frame: pl.DataFrame | None, table: schema.Table
) -> Attributes:
    if source is None or frame is None:
        return _none(table)
    return attributes_in_frame(source, frame, table.name, table.key[0])


def _read_attributes(
    source: AttributeSource | None, files: list[SourceFile], table: schema.Table
) -> Attributes:
    return _none(table) if source is None else read_attributes(source, files, table.key[0])


def _none(table: schema.Table) -> Attributes:
    empty = pl.DataFrame(pl.from_arrow(table.columns.empty_table()))
    return empty, conflicts.NONE_QUARANTINED
