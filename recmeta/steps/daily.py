"""One day of a log: the partition that a daily run reads, and which days have been read.

A mapping whose paths hold `{date}` (`logs/{date}.csv`, `s3://logs/day={date}/`) is a log in daily
partitions. A mapping without it is one log that is exported whole every day: its known rows are
duplicates, so that every day's run reads all of it and takes what is new.
"""

import dataclasses
import datetime

import pyarrow.fs as pafs

from recmeta.errors import UserError
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.manifest import Manifest
from recmeta.progress import Progress, silent
from recmeta.steps import ingest
from recmeta.workspace import Folder, Workspace

DATE = "{date}"
INGESTED = "partitions"
"""Folder of the workspace with a small file per day that was ingested."""


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


def ingested_days(workspace: Workspace) -> list[datetime.date]:
    """Return the days that `ingest_day` has ingested, sorted."""
    names = (workspace / INGESTED).names()
    return sorted(datetime.date.fromisoformat(name.removesuffix(".json")) for name in names)


def next_day(
    mapping: LogMapping, workspace: Workspace, today: datetime.date | None = None
) -> datetime.date:
    """Return the day that a run without a date of its own reads.

    That is the oldest available day that was not ingested; else the newest available one; without
    daily partitions, the day before `today`.
    """
    available = available_days(mapping)
    if not available:
        today = today or datetime.datetime.now(datetime.UTC).date()
        return today - datetime.timedelta(days=1)
    done = set(ingested_days(workspace))
    return next((day for day in available if day not in done), available[-1])


def latest_day(workspace: Workspace) -> datetime.date:
    """Return the newest day that was ingested; before the first, yesterday."""
    days = ingested_days(workspace)
    if days:
        return days[-1]
    return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)


def ingest_day(
    mapping: LogMapping,
    day: datetime.date,
    workspace: Workspace,
    *,
    now: datetime.datetime | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Ingest one day's partition and note that the day is done.

    Raises:
        UserError: as `recmeta.steps.ingest.run` does.
    """
    manifest = ingest.run(mapping_of(mapping, day), workspace, now=now, progress=progress)
    (workspace / INGESTED).write_json(
        f"{day.isoformat()}.json", {"key": manifest.key, "source": manifest.outputs["source"]}
    )
    return manifest


def of_day(workspace: Workspace, day: datetime.date) -> str:
    """Return the key of the ingest of a day.

    Raises:
        UserError: when the day was not ingested.
    """
    name = f"{day.isoformat()}.json"
    folder = workspace / INGESTED
    if not folder.exists(name):
        raise UserError(f"{day} has not been ingested in the workspace {workspace.location}.")
    key: str = folder.read_json(name)["key"]
    return key


def _on(path: str, day: datetime.date) -> str:
    return path.replace(DATE, day.isoformat())
