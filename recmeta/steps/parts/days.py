"""Which days of a log have been read, and which is due."""

import datetime

from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.partitions import available_days, has_arrived, mapping_of
from recmeta.workspace import Workspace

INGESTED = "partitions"
"""Folder of the workspace with a small file per day that was ingested."""


def note(workspace: Workspace, day: datetime.date, *, key: str, source: str) -> None:
    """Note that a day was ingested.

    Args:
        key: of the ingest's manifest.
        source: the content id of what was read.
    """
    (workspace / INGESTED).write_json(f"{day.isoformat()}.json", {"key": key, "source": source})


def ingested_days(workspace: Workspace) -> list[datetime.date]:
    """Return the days that were ingested one by one, sorted."""
    names = (workspace / INGESTED).names()
    return sorted(datetime.date.fromisoformat(name.removesuffix(".json")) for name in names)


def next_day(
    mapping: LogMapping,
    workspace: Workspace,
    today: datetime.date | None = None,
    done_file: str | None = None,
) -> datetime.date:
    """Return the day that a run without a date of its own reads.

    That is the oldest day that is complete and was not ingested; otherwise the newest day that
    exists; without daily partitions, the day before `today`.

    Args:
        done_file: as `has_arrived`.
    """
    available = available_days(mapping)
    if not available:
        today = today or datetime.datetime.now(datetime.UTC).date()
        return today - datetime.timedelta(days=1)
    done = set(ingested_days(workspace))
    waiting = (day for day in available if day not in done)
    whole = (day for day in waiting if has_arrived(mapping_of(mapping, day).path, done_file))
    return next(whole, available[-1])


def latest_day(workspace: Workspace) -> datetime.date:
    """Return the newest day that was ingested; before the first, yesterday."""
    days = ingested_days(workspace)
    if days:
        return days[-1]
    return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)


def ingest_of(workspace: Workspace, day: datetime.date) -> str:
    """Return the key of the ingest of a day.

    Raises:
        UserError: if the day was not ingested.
    """
    name = f"{day.isoformat()}.json"
    folder = workspace / INGESTED
    if not folder.exists(name):
        raise UserError(f"{day} has not been ingested in the workspace {workspace.location}.")
    key: str = folder.read_json(name)["key"]
    return key
