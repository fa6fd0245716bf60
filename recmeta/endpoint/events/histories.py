"""Histories of users who come back: the workspace's log and profiles, and later events.

The newest rows of each user in the log are in memory, about 20 bytes each, and are read again when
the table has changed. An event is read from the disk by the requests that follow it, before and
after it has been ingested into the log.
"""

import dataclasses
import logging
import threading
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.endpoint.config import MAX_HISTORY
from recmeta.logs import tables
from recmeta.logs.events.opening import make_event_store
from recmeta.logs.events.store import PastEvent
from recmeta.serving.intake import GivenUser, Value
from recmeta.tasks.arrays import IntArray, offsets_of
from recmeta.workspace import Workspace

log = logging.getLogger(__name__)
READ_SECONDS = 0.2
"""How long a request waits for another process that rewrites the events."""


Versions = tuple[int | None, int | None]
"""Versions of the tables of interactions and of users; None for a table that does not exist."""


@dataclasses.dataclass(frozen=True)
class KnownUser:
    """The history and the profile of one user."""

    past: Sequence[PastEvent]
    """The newest events, the oldest first."""
    profile: Mapping[str, Value]
    """The known attributes by name."""


NOBODY = KnownUser((), {})


@dataclasses.dataclass(frozen=True)
class LogRows:
    """The newest rows of each user of a log, the oldest first, and profiles."""

    versions: Versions
    place_of: dict[str, int]
    """Each user's place, by id."""
    offsets: IntArray
    """(users + 1,) where each user's rows begin."""
    item: npt.NDArray[np.uint32]
    item_ids: list[str]
    event: npt.NDArray[np.uint32]
    events: list[str]
    value: npt.NDArray[np.float64]
    timestamp: IntArray
    """Microseconds since 1970; int64's smallest value where the log has no times."""
    profiles: pa.Table
    """Attributes of users, as they are now."""
    profile_of: dict[str, int]
    """The row of each user in the profiles, by id."""

    @classmethod
    def read(cls, workspace: Workspace) -> "LogRows":
        """Read them from the current log."""
        frame, version = _scanned(workspace, schema.INTERACTIONS)
        of_users, users_version = _scanned(workspace, schema.USERS)
        columns = [schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID, schema.EVENT, schema.VALUE]
        rows = (
            frame.select(columns)
            .with_columns(pl.col(schema.ITEM_ID, schema.EVENT).cast(pl.Categorical))
            .sort(schema.USER_ID, schema.TIMESTAMP, nulls_last=False, maintain_order=True)
            .group_by(schema.USER_ID, maintain_order=True)
            .tail(MAX_HISTORY)
            .collect()
        )
        lengths = rows.group_by(schema.USER_ID, maintain_order=True).len()
        users = lengths[schema.USER_ID].to_list()
        time = rows[schema.TIMESTAMP].to_physical().fill_null(schema.ALWAYS)
        item, item_ids = _encoded(rows[schema.ITEM_ID])
        event, events = _encoded(rows[schema.EVENT])
        newest = of_users.sort(schema.USER_ID, schema.VALID_FROM).unique(
            schema.USER_ID, keep="last"
        )
        profiles = newest.drop(schema.VALID_FROM).collect()
        ids = profiles[schema.USER_ID].to_list()
        return cls(
            versions=(version, users_version),
            profiles=schema.with_plain_types(profiles.drop(schema.USER_ID).to_arrow()),
            profile_of={user: row for row, user in enumerate(ids)},
            place_of={user: place for place, user in enumerate(users)},
            offsets=offsets_of(lengths["len"].to_numpy().astype(np.int64)),
            item=item,
            item_ids=item_ids,
            event=event,
            events=events,
            value=rows[schema.VALUE].to_numpy(),
            timestamp=time.to_numpy(),
        )

    def of(self, user_id: str) -> list[PastEvent]:
        """Return a user's rows, the oldest first."""
        place = self.place_of.get(user_id)
        if place is None:
            return []
        own = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        columns = (self.item[own], self.event[own], self.value[own], self.timestamp[own])
        return [
            PastEvent(self.item_ids[item], self.events[event], value, time)
            for item, event, value, time in zip(*(c.tolist() for c in columns), strict=True)
        ]

    def profile(self, user_id: str) -> dict[str, Value]:
        """Return the known attributes of a user."""
        row = self.profile_of.get(user_id)
        if row is None:
            return {}
        known = self.profiles.slice(row, 1).to_pylist()[0]
        return {name: value for name, value in known.items() if value is not None}


class UserHistories:
    """The histories of users. `of` belongs to one thread, `writer` to another."""

    def __init__(self, workspace: Workspace) -> None:
        self.writer = make_event_store(workspace)
        self._reader, self._follower = self.writer.another(), self.writer.another()
        self._reader.wait_at_most(READ_SECONDS)
        self._workspace = workspace
        self._log = LogRows.read(workspace)
        self._stop = threading.Event()

    def of(self, user_ids: Collection[str]) -> dict[str, KnownUser]:
        """Return the histories of users; unknown users are absent.

        Raises:
            sqlite3.Error: where the events cannot be read.
        """
        found, stored = {}, self._reader.of_users(user_ids, MAX_HISTORY)
        log = self._log
        for user_id in user_ids:
            known, profile = log.of(user_id), log.profile(user_id)
            since = stored.get(user_id, [])
            if since:
                # What came into the log meanwhile is in both.
                both = {(e.item_id, e.event, e.timestamp): e for e in (*known, *since)}
                known = sorted(both.values(), key=lambda e: e.timestamp)[-MAX_HISTORY:]
            if known or profile:
                found[user_id] = KnownUser(known, profile)
        return found

    def start(self, seconds: float) -> None:
        """Begin to check periodically for new rows of the log."""
        threading.Thread(
            target=self._watch, args=[seconds], name="recmeta-histories", daemon=True
        ).start()

    def stop(self) -> None:
        """Stop checking."""
        self._stop.set()

    def refresh(self) -> None:
        """Read other servers' events, and the log again if it has changed. The present rows stay if
        that fails."""
        try:
            self._follower.refresh()
            read = (schema.INTERACTIONS, schema.USERS)
            versions = tuple(_scanned(self._workspace, table)[1] for table in read)
            if versions != self._log.versions:
                self._log = LogRows.read(self._workspace)
        except Exception:
            log.exception("the log could not be read; histories are those of before")

    def _watch(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.refresh()


def with_history(
    user: GivenUser, known: KnownUser, fields: Collection[str], *, graded: bool, now: int
) -> GivenUser:
    """Return a user with the earlier history. Attributes in the request take precedence.

    Args:
        fields: the attributes that the model reads.
        graded: whether the model learned from ratings. If so, only ratings count; otherwise, events
            of a positive value do.
        now: microseconds since 1970, when interactions without a time happened.
    """
    profile = {name: value for name, value in known.profile.items() if name in fields}
    user = dataclasses.replace(user, profile={**profile, **user.profile})
    past = known.past
    if graded:
        past = [one for one in past if one.event == schema.RATING_EVENT]
    else:
        past = [one for one in past if one.value > 0]
    if not past:
        return user
    latest = max(now, past[-1].timestamp)
    times = tuple(latest if time is None else time for time in user.time)
    values = tuple(one.value if graded else None for one in past)
    return dataclasses.replace(
        user,
        item_id=(*(one.item_id for one in past), *user.item_id),
        value=(*values, *user.value),
        time=(*(one.timestamp for one in past), *times),
    )


def _scanned(workspace: Workspace, table: schema.Table) -> tuple[pl.LazyFrame, int | None]:
    """Return a table and its version; an empty one and None where there is none."""
    if not tables.is_there(workspace, table):
        return tables.empty(table).lazy(), None
    delta = tables.opened(workspace, table)
    return pl.scan_delta(delta), int(delta.version())


def _encoded(column: pl.Series) -> tuple[npt.NDArray[np.uint32], list[str]]:
    """Return a column of categories as numbers, and what they stand for."""
    text = column.cast(pl.String)
    names = text.unique().sort()
    codes = text.replace_strict(names, pl.Series(range(len(names)), dtype=pl.UInt32))
    return codes.cast(pl.UInt32).to_numpy(), names.to_list()
