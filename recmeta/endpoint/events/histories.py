"""What is known of users who come back: the workspace's log, and the events since.

Of the log the newest rows of each user are in memory, about 20 bytes each, and are read again when
the table has changed. An event is read from the disk by the request that follows it, before and
after it has come into the log.
"""

import dataclasses
import logging
import threading
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from recmeta import schema
from recmeta.endpoint.config import MAX_HISTORY
from recmeta.logs import tables
from recmeta.logs.event_store import PastEvent, make_event_store
from recmeta.serving.intake import GivenUser
from recmeta.tasks.arrays import IntArray, offsets_of
from recmeta.workspace import Workspace

log = logging.getLogger(__name__)
READ_SECONDS = 0.2
"""How long a request waits for another process that rewrites the events."""


@dataclasses.dataclass(frozen=True)
class LogRows:
    """The newest rows of each user of a log, the oldest first."""

    version: int | None
    """Of the table; None where there is none."""
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

    @classmethod
    def read(cls, workspace: Workspace) -> "LogRows":
        """Read them as the log stands now."""
        frame, version = tables.empty(schema.INTERACTIONS).lazy(), None
        if tables.is_there(workspace, schema.INTERACTIONS):
            delta = tables.opened(workspace, schema.INTERACTIONS)
            frame, version = pl.scan_delta(delta), int(delta.version())
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
        return cls(
            version=version,
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


class UserHistories:
    """What is known of users. `of` belongs to one thread, `writer` to another."""

    def __init__(self, workspace: Workspace) -> None:
        """
        Raises:
            UserError: where the workspace is in an object store.
        """
        self.writer = make_event_store(workspace)
        self._reader = make_event_store(workspace)
        self._reader.wait_at_most(READ_SECONDS)
        self._workspace = workspace
        self._log = LogRows.read(workspace)
        self._stop = threading.Event()

    def of(self, user_ids: Collection[str]) -> dict[str, list[PastEvent]]:
        """Return the newest events of users, the oldest first; unknown users are absent.

        Raises:
            sqlite3.Error: where the events cannot be read.
        """
        found, stored = {}, self._reader.of_users(user_ids, MAX_HISTORY)
        for user_id in user_ids:
            known = self._log.of(user_id)
            since = stored.get(user_id, [])
            if since:
                # What came into the log meanwhile is in both.
                both = {(e.item_id, e.event, e.timestamp): e for e in (*known, *since)}
                known = sorted(both.values(), key=lambda e: e.timestamp)[-MAX_HISTORY:]
            if known:
                found[user_id] = known
        return found

    def start(self, seconds: float) -> None:
        """Begin to look, every so many seconds, for what the log has got."""
        threading.Thread(
            target=self._watch, args=[seconds], name="recmeta-histories", daemon=True
        ).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def refresh(self) -> None:
        """Read the log again if it has changed. The rows at hand stay if that fails."""
        try:
            table = schema.INTERACTIONS
            if tables.is_there(self._workspace, table):
                version = int(tables.opened(self._workspace, table).version())
                if version != self._log.version:
                    self._log = LogRows.read(self._workspace)
        except Exception:
            log.exception("the log could not be read; histories are those of before")

    def _watch(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.refresh()


def with_history(
    user: GivenUser, past: Sequence[PastEvent], *, graded: bool, now: int
) -> GivenUser:
    """Return a user with what was known before.

    Args:
        graded: whether the model learned from ratings, which then are all that counts; else events
            of a positive value count.
        now: microseconds since 1970, when interactions without a time happened.
    """
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


def _encoded(column: pl.Series) -> tuple[npt.NDArray[np.uint32], list[str]]:
    """Return a column of categories as numbers, and what they stand for."""
    text = column.cast(pl.String)
    names = text.unique().sort()
    codes = text.replace_strict(names, pl.Series(range(len(names)), dtype=pl.UInt32))
    return codes.cast(pl.UInt32).to_numpy(), names.to_list()
