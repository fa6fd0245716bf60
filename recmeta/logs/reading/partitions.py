"""The daily partitions of a log.

A mapping whose paths hold `{date}` (`logs/{date}.csv`, `s3://logs/day={date}/`) is a log in daily
partitions. A mapping without it is one log that is exported whole every day: its known rows are
duplicates, so that every day's run reads all of it and takes what is new.
"""

import dataclasses
import datetime

import pyarrow.fs as pafs

from recmeta.errors import UserError
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.workspace import Folder

DATE = "{date}"


def parse_day(text: str) -> datetime.date:
    """Return the day that `2026-01-31` names; of a date with a time, its day.

    Raises:
        UserError: for anything else.
    """
    try:
        return datetime.datetime.fromisoformat(text).date()
    except ValueError as error:
        raise UserError(f"the date is {text!r}; write it as 2026-01-31.") from error


def end_of(day: datetime.date) -> datetime.datetime:
    """Return the midnight (UTC) that ends a day."""
    following = day + datetime.timedelta(days=1)
    return datetime.datetime.combine(following, datetime.time(), datetime.UTC)


def mapping_of(mapping: LogMapping, day: datetime.date) -> LogMapping:
    """Return the mapping of one day's partition; the mapping itself where it has no `{date}`."""

    def section(source: AttributeSource | None) -> AttributeSource | None:
        return source and dataclasses.replace(source, path=_on(source.path, day))

    return dataclasses.replace(
        mapping,
        path=_on(mapping.path, day),
        users=section(mapping.users),
        items=section(mapping.items),
    )


def has_arrived(path: str) -> bool:
    """Return whether there is a file or a folder at a path or an object-store URL."""
    if path.startswith(("http://", "https://")):
        return True  # asked for when it is read
    folder = Folder.at(path)
    return bool(folder.filesystem.get_file_info(folder.path).type != pafs.FileType.NotFound)


def available_days(mapping: LogMapping) -> list[datetime.date]:
    """Return the days of which the log has a partition, sorted; none without `{date}` in it."""
    before, found, after = mapping.path.partition(DATE)
    if not found:
        return []
    parent, _, prefix = before.rpartition("/")
    suffix = after.split("/", 1)[0]
    folder = Folder.at(parent or ".")
    selector = pafs.FileSelector(folder.path, allow_not_found=True)
    days = []
    for entry in folder.filesystem.get_file_info(selector):
        name = entry.base_name
        middle = name.removeprefix(prefix).removesuffix(suffix)
        if name != f"{prefix}{middle}{suffix}" or len(middle) != len("2026-01-31"):
            continue
        try:
            days.append(datetime.date.fromisoformat(middle))
        except ValueError:
            continue
    return sorted(days)


def _on(path: str, day: datetime.date) -> str:
    return path.replace(DATE, day.isoformat())
