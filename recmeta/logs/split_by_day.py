"""A log in one piece ──▶ the same log in daily partitions, as if it had arrived by day.

It serves to replay a public data set, and to move an archive to daily runs.
"""

import dataclasses
import datetime
import io

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.checking import contracts, parsing
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import find_files
from recmeta.logs.reading.partitions import DATE as DATE_IN_PATH
from recmeta.logs.reading.sources import read
from recmeta.schema import DATE, FILE, LINE, RAW
from recmeta.workspace import Folder

HISTORY = "history.parquet"
ROLES = ("user", "item", "time", "event", "value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitLog:
    """A log in two pieces: its older rows, and daily partitions."""

    history: LogMapping | None
    """Everything before the first partition; None if there is nothing."""
    daily: LogMapping
    """The partitions; its path holds `{date}`."""
    days: list[datetime.date]
    """The days that have a partition, sorted."""


def split_by_day(mapping: LogMapping, location: str, num_days: int | None = None) -> SplitLog:
    """Write a log's rows by the UTC day of their time, as Parquet files of the mapped columns.

    Rows are not checked here: a row whose time cannot be read goes to the first file, where ingest
    finds it unchanged and puts it in the quarantine. Attributes of users and items stay where they
    are.

    Args:
        location: the folder to write to.
        num_days: how many of the last days get a file each; older rows become the history. If None,
            all days do.

    Raises:
        UserError: if the log has no times, or cannot be read.
    """
    if mapping.time_col is None:
        raise UserError("the mapping has no time_col: only a log with times has days.")
    wanted = contracts.wanted_columns(mapping)
    batches = list(read(mapping, find_files(mapping), wanted))
    rows = pl.concat(batches) if batches else pl.DataFrame()
    if not rows.height:
        raise UserError(f"the log {mapping.path!r} has no rows to split.")
    time = parsing.time("time", rows.schema["time"], mapping.time_unit)
    rows = rows.sort(FILE, LINE, maintain_order=True).with_columns(time.dt.date().alias(DATE))
    rows = rows.with_columns(pl.col(DATE).fill_null(pl.col(DATE).min()))
    days = sorted(rows[DATE].unique().drop_nulls().to_list())
    own = days if num_days is None else days[-num_days:] if num_days else []
    folder = Folder.at(location)
    columns = [RAW, *(name for name in rows.columns if name in ROLES)]
    older = rows.filter(~pl.col(DATE).is_in(own))
    if older.height:
        _write(folder, HISTORY, older.select(columns))
    for (day,), part in rows.filter(pl.col(DATE).is_in(own)).group_by(DATE, maintain_order=True):
        _write(folder, f"{day}.parquet", part.select(columns))
    place = folder.path if folder.is_local else location.rstrip("/")
    return SplitLog(
        history=_mapping(mapping, f"{place}/{HISTORY}") if older.height else None,
        daily=_mapping(mapping, f"{place}/{DATE_IN_PATH}.parquet"),
        days=own,
    )


def _mapping(mapping: LogMapping, path: str) -> LogMapping:
    """Return the mapping of a written file: its columns bear the names of their roles."""
    return dataclasses.replace(
        mapping,
        path=path,
        format="parquet",
        separator="",
        quote='"',
        escape="",
        encoding="utf-8",
        column_names=(),
        item_separator="",
        item_suffix="",
        user_col="user",
        item_col="item",
        time_col="time",
        event_col=mapping.event_col and "event",
        value_col="value" if mapping.has_values else None,
        event=mapping.event if mapping.event_col else mapping.constant_event,
    )


def _write(folder: Folder, name: str, rows: pl.DataFrame) -> None:
    stream = io.BytesIO()
    rows.write_parquet(stream)
    folder.write_bytes(name, stream.getvalue())
