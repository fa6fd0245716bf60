"""Events of a workspace in an object store: each commit is an object, which nobody changes.

    events/ID.json             the events of one commit, as they arrived
    events/ingested/ID.json    those that one ingest has brought into the log

A commit is durable when its object is written, so that `append` returns after that. Each process
has the events in a database of its own besides, in a temporary folder, from which it reads: what
others have written meanwhile is there after `refresh`. An event that two servers were sent counts
once, by its id: the first one that is found counts.
"""

import contextlib
import datetime
import json
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from recmeta.logs.events.store import (
    FILE,
    FOLDER,
    Appended,
    EventStore,
    StoredEvent,
    microseconds,
    transaction,
)
from recmeta.workspace import Folder
from recmeta.workspace.temporary import folder_of_mine, of_the_machine

INGESTED = "ingested"
"""The folder of objects whose events the log has."""
READS_AT_ONCE = 16
_SELECT = "SELECT event_id, user_id, item_id, event, value, timestamp FROM events WHERE"
_INTO = (
    "INTO events (event_id, user_id, item_id, event, value, timestamp, ingested_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_KEEP, _REPLACE = f"INSERT OR IGNORE {_INTO}", f"INSERT OR REPLACE {_INTO}"
_OBJECTS = """
CREATE TABLE IF NOT EXISTS objects (
    name TEXT PRIMARY KEY,
    first INTEGER NOT NULL,    -- the numbers of its events
    last INTEGER NOT NULL
) STRICT
"""


class ObjectEventStore(EventStore):
    """The events of a workspace in an object store. An object belongs to one thread at a time."""

    def __init__(self, folder: Folder, place: Path | None = None) -> None:
        """Read the events.

        Args:
            folder: of the events.
            place: of this process' database, as `another` gives it; if None, it is made, and
                deleted in the end.

        Raises:
            OSError: if the object store does not answer.
        """
        self.folder = folder
        self._delete_own = None
        if place is None:
            own = tempfile.mkdtemp(dir=folder_of_mine(of_the_machine()))
            self._delete_own = weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)
            place = Path(own) / FOLDER / FILE
            place.parent.mkdir(mode=0o700)
        super().__init__(place)
        self._database.execute(_OBJECTS)
        self.refresh()

    def another(self) -> "ObjectEventStore":
        """Return the same events for another thread of this process."""
        return ObjectEventStore(self.folder, self.path)

    def close(self) -> None:
        """Close the database, and delete it if it is this object's own."""
        super().close()
        if self._delete_own is not None:
            self._delete_own()

    def append(self, senders: Sequence[Sequence[StoredEvent]]) -> list[Appended]:
        """Store the events of several senders in one object, and return what happened to each
        sender's.

        Raises:
            OSError: if the object store does not take them; then nothing is stored.
        """
        with transaction(self._database):
            before = self._last_number()
            found = self._append_all(senders)
            added = self._rows("number > ?", before)
            if added:
                name = _new_name()
                self._write(name, added)
                self._note_object(name, before)
        return found

    def refresh(self) -> None:
        """Read what others have stored, moved or deleted meanwhile.

        Raises:
            OSError: if the object store does not answer.
        """
        known = {name for (name,) in self._database.execute("SELECT name FROM objects")}
        there = self._names()
        new = [name for name in there if name not in known]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            contents = list(pool.map(self._read, new))
        with transaction(self._database):
            self._drop(known.difference(there))
            for name, rows in zip(new, contents, strict=True):
                before, ingested_at = self._last_number(), there[name]
                # What the log has is final; else the event that was there first counts.
                self._database.executemany(
                    _KEEP if ingested_at is None else _REPLACE,
                    [(*row, ingested_at) for row in rows],
                )
                self._note_object(name, before)

    def note_ingested(self, last: int) -> int:
        """Note that the log has all events up to a number; return how many were new to it."""
        rows = self._rows("ingested_at IS NULL AND number <= ?", last)
        name = f"{INGESTED}/{_new_name()}"
        if rows:
            self._write(name, rows)
        # Killed here, both are there, and each event still counts once.
        for old in self._pending_objects(last):
            self.folder.delete(old)
        self.refresh()
        return len(rows)

    def expire(self, before: datetime.datetime) -> int:
        """Delete events that were ingested into the log before a time; return how many there
        were."""
        deleted = super().expire(before)
        for name, ingested_at in self._names().items():
            if ingested_at is not None and ingested_at < microseconds(before):
                self.folder.delete(name)
        return deleted

    def forget(self, user_ids: Collection[str]) -> int:
        """Delete users' events for good; return how many there were. Servers that run read them
        until they `refresh`."""
        deleted = 0
        for name in self._names():
            rows = self._read(name)
            kept = [row for row in rows if row[1] not in user_ids]
            if len(kept) < len(rows):
                if kept:
                    self._write(f"{os.path.dirname(name)}/{_new_name()}".lstrip("/"), kept)
                self.folder.delete(name)
                deleted += len(rows) - len(kept)
        super().forget(user_ids)
        return deleted

    # Objects -------------------------------------------------------------------------------------

    def _names(self) -> dict[str, int | None]:
        """Return the objects, those of the log first, and of these when they were ingested, in
        microseconds since 1970."""
        selector = pafs.FileSelector(self.folder.path, recursive=True, allow_not_found=True)
        found: dict[str, int | None] = {}
        for info in self.folder.filesystem.get_file_info(selector):
            name = info.path[len(self.folder.path) + 1 :]
            if info.type == pafs.FileType.File and name.endswith(".json"):
                is_ingested = name.startswith(f"{INGESTED}/")
                found[name] = info.mtime_ns // 1_000 if is_ingested else None
        return dict(sorted(found.items(), key=lambda one: (one[1] is None, one[0])))

    def _read(self, name: str) -> list[list[Any]]:
        """Return the events of an object; none if it was deleted meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            rows: list[list[Any]] = self.folder.read_json(name)["events"]
            return rows
        return []

    def _write(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        self.folder.write_bytes(name, json.dumps({"events": rows}).encode())

    def _pending_objects(self, last: int) -> Iterator[str]:
        rows = self._database.execute(
            "SELECT name FROM objects WHERE last <= ? AND name NOT LIKE ? ORDER BY name",
            (last, f"{INGESTED}/%"),
        )
        yield from (name for (name,) in rows.fetchall())

    # The database of this process ----------------------------------------------------------------

    def _last_number(self) -> int:
        found = self._database.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
        ).fetchone()
        return 0 if found is None else int(found[0])

    def _rows(self, condition: str, *values: int) -> list[tuple[Any, ...]]:
        return self._database.execute(f"{_SELECT} {condition} ORDER BY number", values).fetchall()

    def _note_object(self, name: str, before: int) -> None:
        """Note an object whose events have just got numbers after this one."""
        numbers = (before + 1, self._last_number())
        self._database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (name, *numbers))

    def _drop(self, names: Collection[str]) -> None:
        """Take the events of objects out."""
        for name in names:
            self._database.execute(
                "DELETE FROM events WHERE number >= (SELECT first FROM objects WHERE name = ?1) "
                "AND number <= (SELECT last FROM objects WHERE name = ?1)",
                (name,),
            )
            self._database.execute("DELETE FROM objects WHERE name = ?", (name,))


def _new_name() -> str:
    """Return a new name; later ones are greater, as far as clocks agree."""
    now = microseconds(datetime.datetime.now(datetime.UTC))
    return f"{now:017d}-{uuid.uuid4().hex[:12]}.json"
