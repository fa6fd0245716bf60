"""Locks by name in a folder `.locks`: one owner at a time, in whatever process, on whatever host.

On a local disk a lock is the kernel's (`flock`): it is released the moment its owner ends, in
whatever way, so that nobody has to decide whether an owner is still alive. In an object store it is
a lease (`recmeta.workspace.lease`). The file of a lock names its owner, for the others' messages.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from recmeta.workspace.owner import Owner
from recmeta.workspace.privacy import make_private

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""The errors of a file system without locks."""
_OPEN: set[int] = set()
"""File descriptors of the locks that this process holds."""


class Lock(Protocol):
    """Holds a name; `release` gives it back."""

    def check(self) -> None:
        """Raise UserError if the name was lost to another owner in the meantime."""

    def release(self) -> None:
        """Give the name back. A second call does nothing."""


class FileLock:
    """A lock of the kernel on a file. `try_lock` makes it."""

    def __init__(self, path: Path, descriptor: int, made: list[Path]) -> None:
        """Keep a lock that was taken.

        Args:
            made: folders that were made for it, the innermost first.
        """
        self._path = path
        self._descriptor: int | None = descriptor
        self._made = made
        _OPEN.add(descriptor)

    def check(self) -> None:
        """Do nothing: the kernel takes no lock from a live process."""

    def release(self) -> None:
        """Give the name back. A second call does nothing."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with contextlib.suppress(OSError):
            self._path.unlink()
        _OPEN.discard(descriptor)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # something was written there, as intended
            for folder in self._made:
                folder.rmdir()


def try_lock(path: Path, owner: Owner) -> FileLock | None:
    """Return the lock, or None while another process, or another part of this one, holds it.

    Folders that are made for the lock are deleted with it if nothing else was written there.

    Raises:
        OSError: if the folder cannot be written to, or its file system has no locks, one of
            `UNSUPPORTED`.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no flock")
    made: list[Path] = []
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            made = [folder for folder in path.parents if not folder.exists()]
            make_private(path.parent.parent)
            path.parent.mkdir(exist_ok=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A file that was deleted meanwhile is not a lock: the next process makes another.
            is_current = _is_at(descriptor, path)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in _HELD:
                return None
            raise
        if is_current:
            break
        os.close(descriptor)
    lock = FileLock(path, descriptor, made)
    with contextlib.suppress(OSError):  # the lock holds, whether or not the disk takes the name
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, owner.to_bytes(), 0)
    return lock


def is_held(path: Path) -> bool:
    """Return whether a lock is held; its file stays as it is.

    Raises:
        OSError: if the file system has no locks, one of `UNSUPPORTED`.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no flock")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return True
    finally:
        os.close(descriptor)
    return False


def owner_of(path: Path) -> Owner | None:
    """Return who holds a lock, according to its file."""
    try:
        return Owner.read(path.read_bytes())
    except OSError:
        return None


def held_in(folder: Path, prefix: str) -> Iterator[tuple[str, Owner | None]]:
    """Yield the names with a prefix that are held, with their owners; the files of other names are
    deleted."""
    if fcntl is None or not folder.is_dir():
        return
    for path in sorted(folder.glob(f"{prefix}*")):
        owner = owner_of(path)
        lock = try_lock(path, Owner.here())
        if lock is None:
            yield path.name, owner
        else:
            lock.release()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _let_go_in_child() -> None:
    """Close the locks of the parent, so that a child that outlives it does not hold them."""
    for descriptor in _OPEN:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _OPEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
