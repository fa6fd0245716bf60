"""Who may write to a workspace: one command at a time, and long work at the same time, each piece
once.

Whoever changes tables, task sets, states, lists or aliases holds the *writer's lock*. Training and
similar work takes hours and changes only its own output: it holds a lock by its own name, and the
writer's lock is free meanwhile. A command during which nothing else may run, such as `forget`,
holds the writer's lock while there is no such work. Reading needs no lock: tables have versions,
and everything else is written under a new name or replaced atomically.
"""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from recmeta.errors import UserError, WorkspaceBusyError
from recmeta.workspace import lease, lock
from recmeta.workspace.lock import Lock
from recmeta.workspace.owner import Owner

FOLDER = ".locks"
WRITER = "writer"
WORK = "work-"
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two attempts to take a lock."""

P = ParamSpec("P")
R = TypeVar("R")


class FileLocks:
    """The locks of a workspace on a local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, name: str) -> Lock | None:
        """Return the lock; None if it is held.

        Raises:
            UserError: if the file system has no locks.
        """
        try:
            return lock.try_lock(self._folder / name, Owner.here())
        except OSError as error:
            if error.errno not in lock.UNSUPPORTED:
                raise
            raise UserError(
                f"the file system of {self._folder} has no locks ({error.strerror}), so that two "
                "commands could write at once: use a --workspace on another disk, or mount it with "
                "locks."
            ) from error

    def owner(self, name: str) -> Owner | None:
        """Return who holds a lock, if that can be read."""
        return lock.owner_of(self._folder / name)

    def held(self, prefix: str) -> list[tuple[str, Owner | None]]:
        """Return the locks whose names have a prefix and that are held, with their owners."""
        return list(lock.held_in(self._folder, prefix))


class Leases:
    """The locks of a workspace in an object store."""

    def __init__(self, location: str) -> None:
        self._store = lease.store_of(location)

    def take(self, name: str) -> Lock | None:
        """Return the lease; None if it is held."""
        return lease.try_lease(self._store, f"{FOLDER}/{name}", Owner.here())

    def owner(self, name: str) -> Owner | None:
        """Return who holds a lease."""
        return lease.holder(self._store, f"{FOLDER}/{name}")

    def held(self, prefix: str) -> list[tuple[str, Owner | None]]:
        """Return the leases whose names have a prefix and that are held; the other leases are
        deleted."""
        found = []
        for name in lease.names_of(self._store, FOLDER, prefix):
            taken = self.take(name)
            if taken is None:
                found.append((name, self.owner(name)))
            else:
                taken.release()
                lease.delete(self._store, f"{FOLDER}/{name}")
        return found


@dataclasses.dataclass
class _Held:
    """A lock that a thread of this process holds, and how often it holds it."""

    lock: Lock
    times: int = 1


_HELD: dict[tuple[str, str, int], _Held] = {}
"""The held locks, by the workspace's location, the lock's name and the thread."""


class Writers:
    """The locks of one workspace, as one of its users takes them."""

    def __init__(
        self,
        location: str,
        locks: Callable[[], FileLocks | Leases],
        wait: float,
        say: Callable[[str], None],
    ) -> None:
        """Make the locks known; none is taken.

        Args:
            locks: called when the first lock is taken.
            wait: seconds to wait for another's lock.
            say: called once with what is waited for.
        """
        self._location = location
        self._locks = functools.cache(locks)
        self._wait = wait
        self._say = say

    @contextlib.contextmanager
    def writing(self, *, alone: bool) -> Iterator[bool]:
        """Hold the writer's lock within the block; the thread that has it may take it again.

        Args:
            alone: whether no other work may go on, either.

        Yields:
            Whether the lock was taken now, rather than held by this thread already.

        Raises:
            WorkspaceBusyError: if another process does not release it in time.
        """
        is_first = self._mine(WRITER) is None
        self._take(lambda: self._try_to_write(alone=alone))
        try:
            yield is_first
        finally:
            self._give_back(WRITER)

    @contextlib.contextmanager
    def working_on(self, name: str) -> Iterator[None]:
        """Hold a piece of long work by its name within the block; others may write meanwhile.

        Raises:
            WorkspaceBusyError: if another process works on it, or no work may begin now.
        """
        self._take(lambda: self._try_to_work(name))
        try:
            yield
        finally:
            self._give_back(f"{WORK}{name}")

    def check(self) -> None:
        """Check that this thread still holds its locks; call it before a commit.

        Raises:
            UserError: if a lease was lost.
        """
        for (location, _, thread), held in list(_HELD.items()):
            if (location, thread) == (self._location, threading.get_ident()):
                held.lock.check()

    def _take(self, attempt: Callable[[], tuple[str, Owner | None] | None]) -> None:
        """Repeat an attempt until it returns None; otherwise it returns what is in the way."""
        end = time.monotonic() + self._wait
        pause, announced = FIRST_PAUSE, False
        while (busy := attempt()) is not None:
            left = end - time.monotonic()
            message = _message(self._location, *busy)
            if left <= 0:
                raise WorkspaceBusyError(
                    f"{message} Wait for it with --wait SECONDS, or run this again when it has "
                    "ended."
                )
            if not announced and pause > 10 * FIRST_PAUSE:
                self._say(f"{message} Waiting for at most {self._wait:g} s.")
                announced = True
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, LONGEST_PAUSE)

    def _try_to_write(self, *, alone: bool) -> tuple[str, Owner | None] | None:
        if not self._try(WRITER):
            return WRITER, self._locks().owner(WRITER)
        if alone:
            for name, owner in self._locks().held(WORK):
                if self._mine(name) is None:
                    self._give_back(WRITER)
                    return name, owner
        return None

    def _try_to_work(self, name: str) -> tuple[str, Owner | None] | None:
        # Work begins under the writer's lock, so that its holder sees all work that exists.
        if not self._try(WRITER):
            return WRITER, self._locks().owner(WRITER)
        try:
            work = f"{WORK}{name}"
            return None if self._try(work) else (work, self._locks().owner(work))
        finally:
            self._give_back(WRITER)

    def _try(self, name: str) -> bool:
        held = self._mine(name)
        if held is not None:
            held.times += 1
            return True
        taken = self._locks().take(name)
        if taken is None:
            return False
        _HELD[self._location, name, threading.get_ident()] = _Held(taken)
        return True

    def _give_back(self, name: str) -> None:
        held = self._mine(name)
        assert held is not None, f"{name} is held"
        held.times -= 1
        if not held.times:
            del _HELD[self._location, name, threading.get_ident()]
            held.lock.release()

    def _mine(self, name: str) -> _Held | None:
        return _HELD.get((self._location, name, threading.get_ident()))


def _message(location: str, name: str, owner: Owner | None) -> str:
    who = str(owner) if owner is not None else "another command"
    what = "is being written to by" if name == WRITER else "cannot be written to, because of"
    return f"the workspace {location} {what} {who}."


def writes(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function hold the writer's lock of the workspace that is among its arguments."""
    return _with_workspace(function, lambda workspace: workspace.writing())


def works(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function work beside the writers of the workspace that is among its arguments: no
    writer that must be alone runs meanwhile."""
    return _with_workspace(function, lambda workspace: workspace.working_on())


def writes_alone(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function hold the writer's lock while nothing else runs in the workspace."""
    return _with_workspace(function, lambda workspace: workspace.writing(alone=True))


def _with_workspace(
    function: Callable[P, R], held: Callable[[Any], contextlib.AbstractContextManager[Any]]
) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        workspace = next(a for a in (*args, *kwargs.values()) if hasattr(a, "writing"))
        with held(workspace):
            return function(*args, **kwargs)

    return wrapped
