"""Events since the last ingest, of a workspace on a disk: written as soon as they arrive, and read
by user.

    events/events.sqlite    in the workspace; one row an event, in the order of arrival

A batch of events is on the disk when `append` returns: the database writes ahead, and syncs its log
with every commit. `recmeta ingest` ingests the pending events; the rows stay readable here until
they are old, so that no event is ever missing. Several processes of one machine may share the file;
a network file system, whose locks do not hold, must not have it.
"""

import contextlib
import dataclasses
import datetime
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import polars as pl

from recmeta import schema
from recmeta.errors import UserError
from recmeta.workspace.folder import sync_folder
from recmeta.workspace.privacy import make_private

FOLDER, FILE = "events", "events.sqlite"
VERSION = 1
"""The version of the table below."""
BUSY_SECONDS = 5.0
"""Seconds to wait for another process' commit."""
MOST_PENDING = 1_000_000
"""Events that are read at once to be ingested, some 500 MB."""
_AGAIN = "run the command again, or stop the server for a moment."
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
_TABLE = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    event TEXT NOT NULL,
    value REAL NOT NULL,
    timestamp INTEGER NOT NULL,    -- microseconds since 1970
    ingested_at INTEGER            -- the same, null until the log has the row
) STRICT;
CREATE INDEX events_of_user ON events (user_id, timestamp, number);
CREATE INDEX events_pending ON events (number) WHERE ingested_at IS NULL;
"""
_NEWEST = """
SELECT item_id, event, value, timestamp FROM events
WHERE user_id = ? ORDER BY timestamp DESC, number DESC LIMIT ?
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """An event: something that a user did with an item."""

    event_id: str
    """Identifies the event for good: it counts once, however often it is sent."""
    user_id: str
    item_id: str
    event: str
    value: float
    timestamp: int | None
    """Microseconds since 1970; if None, the time when it is stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appended:
    """What happened to the events of one sender, which are all kept or all refused."""

    accepted: int = 0
    duplicates: int = 0
    """The number of events that were already stored."""
    conflict: int | None = None
    """The position of an event whose id belongs to another event; if there is one, nothing was
    stored."""


@dataclasses.dataclass(frozen=True)
class PastEvent:
    """An event as histories have it."""

    item_id: str
    event: str
    value: float
    timestamp: int
    """Microseconds since 1970."""


class EventStore:
    """The events of a workspace. An object belongs to one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the database of events, or create it.

        Raises:
            UserError: if the file is of a newer version, or is not a database.
        """
        self.path = path
        for folder in (path.parent.parent, path.parent):  # the workspace, and the events' own
            make_private(folder)
        with contextlib.suppress(FileExistsError):  # for its owner alone, whatever the umask is
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            self._database = self._opened()
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"the events in {str(path)!r} cannot be read ({error}): restore the file from a "
                "backup, or move it away."
            ) from error

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Set a connection up, and make the table where there is none."""
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
        database.execute("PRAGMA secure_delete = ON")
        with transaction(database):
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if not version:
                for statement in _TABLE.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
        if version > VERSION:
            raise UserError(
                f"the events in {str(self.path)!r} are of a newer version of recmeta: use that one."
            )
        if not version:
            sync_folder(str(self.path.parent))

    def another(self) -> "EventStore":
        """Return the same events for another thread of this process."""
        return EventStore(self.path)

    def refresh(self) -> None:
        """Read what other processes have stored: here they share the file, and there is nothing to
        do."""

    def wait_at_most(self, seconds: float) -> None:
        """Wait this long for another process' commit, in place of `BUSY_SECONDS`."""
        self._database.execute(f"PRAGMA busy_timeout = {int(1_000 * seconds)}")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def append(self, senders: Sequence[Sequence[StoredEvent]]) -> list[Appended]:
        """Store the events of several senders in one commit, and return what happened to each
        sender's.

        Raises:
            sqlite3.Error, OSError: if the disk is full, another process holds the lock, or an
                object store does not answer; then nothing is stored.
        """
        with transaction(self._database):
            return self._append_all(senders)

    def _append_all(self, senders: Sequence[Sequence[StoredEvent]]) -> list[Appended]:
        now = microseconds(datetime.datetime.now(datetime.UTC))
        return [self._append(events, now) for events in senders]

    def _append(self, events: Sequence[StoredEvent], now: int) -> Appended:
        accepted = 0
        self._database.execute("SAVEPOINT sender")
        for place, one in enumerate(events):
            row = (one.event_id, one.user_id, one.item_id, one.event, one.value)
            time = now if one.timestamp is None else one.timestamp
            added = self._database.execute(
                "INSERT INTO events (event_id, user_id, item_id, event, value, timestamp) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
                (*row, time),
            ).rowcount
            accepted += added
            if not added and self._is_another(one):
                self._database.execute("ROLLBACK TO sender")
                self._database.execute("RELEASE sender")
                return Appended(conflict=place)
        self._database.execute("RELEASE sender")
        return Appended(accepted=accepted, duplicates=len(events) - accepted)

    def _is_another(self, one: StoredEvent) -> bool:
        """Return whether a different event is stored under the id of this one."""
        *stored, timestamp = self._database.execute(
            "SELECT user_id, item_id, event, value, timestamp FROM events WHERE event_id = ?",
            (one.event_id,),
        ).fetchone()
        if stored != [one.user_id, one.item_id, one.event, one.value]:
            return True
        return one.timestamp is not None and one.timestamp != timestamp

    def of_users(self, user_ids: Collection[str], most: int) -> dict[str, list[PastEvent]]:
        """Return the newest events of users, up to a number for each, the oldest first; users
        without any are absent."""
        found = {}
        for user_id in user_ids:
            rows = self._database.execute(_NEWEST, (user_id, most)).fetchall()
            if rows:
                found[user_id] = [PastEvent(*row) for row in reversed(rows)]
        return found

    def pending(self, most: int = MOST_PENDING) -> tuple[int, pl.DataFrame]:
        """Return the first events that the log does not have yet, up to a maximum number, with the
        interactions' columns, and the number of the last one."""
        rows = self._database.execute(
            "SELECT user_id, item_id, timestamp, event, value, number FROM events "
            "WHERE ingested_at IS NULL ORDER BY number LIMIT ?",
            (most,),
        ).fetchall()
        columns = {
            schema.USER_ID: pl.String,
            schema.ITEM_ID: pl.String,
            schema.TIMESTAMP: pl.Int64,
            schema.EVENT: pl.String,
            schema.VALUE: pl.Float64,
            "number": pl.Int64,
        }
        found = pl.DataFrame(rows, schema=columns, orient="row")
        last = 0 if not found.height else int(found["number"][-1])
        time = pl.col(schema.TIMESTAMP).cast(pl.Datetime("us", "UTC"))
        return last, found.drop("number").with_columns(time)

    def note_ingested(self, last: int) -> int:
        """Note that the log has all events up to a number; return how many were new to it."""
        now = microseconds(datetime.datetime.now(datetime.UTC))
        with transaction(self._database):
            return self._database.execute(
                "UPDATE events SET ingested_at = ? WHERE ingested_at IS NULL AND number <= ?",
                (now, last),
            ).rowcount

    def expire(self, before: datetime.datetime) -> int:
        """Delete events that were ingested into the log before a time; return how many there
        were."""
        with transaction(self._database):
            return self._database.execute(
                "DELETE FROM events WHERE ingested_at < ?", (microseconds(before),)
            ).rowcount

    def forget(self, user_ids: Collection[str]) -> int:
        """Delete users' events for good, out of the file and its log; return how many there were.

        Raises:
            UserError: if another process reads or writes all the time; calling it again deletes
                what is left.
        """
        deleted = 0
        with transaction(self._database):
            for user_id in user_ids:
                deleted += self._database.execute(
                    "DELETE FROM events WHERE user_id = ?", (user_id,)
                ).rowcount
        try:
            self._database.execute("VACUUM")
            (busy, *_) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path} cannot be rewritten ({error}): {_AGAIN}") from error
        if busy:
            raise UserError(f"{self.path} is read by another process: {_AGAIN}")
        return deleted


def microseconds(time: datetime.datetime) -> int:
    """Return a time in microseconds since 1970."""
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit everything that is done in the block, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the disk may be why
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
