"""Temporary files, in a folder that its owner holds: others delete the files of dead owners.

.tmp/OWNER files of one process .tmp/OWNER.lock which it holds as long as it is alive
(`recmeta.workspace.lock`)
"""

import atexit
import contextlib
import functools
import os
import platform
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from recmeta.workspace.lock import FileLock, is_held, try_lock
from recmeta.workspace.owner import Owner
from recmeta.workspace.privacy import make_private, require_own

FOLDER = ".tmp"
_LOCK = ".lock"
_MINE: dict[tuple[Path, int], tuple[Path, FileLock | None]] = {}
"""This process's folder by the folder that it is in and the process's id, which a fork changes."""
_USERS: list[Path] = []
"""Folders of temporary files that blocks of `tempfile_in` use now."""
_BEFORE: list[str | None] = []
"""The folder that `tempfile` used before the first of these blocks."""
_LOCK_OF_USERS = threading.Lock()


def folder_of_mine(root: Path) -> Path:
    """Return this process's folder in a folder of temporary files, which is made if need be.

    Raises:
        UserError: if the machine's folder belongs to another user.
    """
    key = (root, os.getpid())
    if key in _MINE and _MINE[key][0].is_dir():
        return _MINE[key][0]
    owner = Owner.here()
    if root == of_the_machine():
        make_private(root)
        require_own(root)
    else:
        make_private(root.parent)
        root.mkdir(exist_ok=True)
    folder = root / owner.id
    lock = _MINE[key][1] if key in _MINE else _locked(root / f"{owner.id}{_LOCK}", owner)
    folder.mkdir(mode=0o700, exist_ok=True)
    _MINE[key] = (folder, lock)
    return folder


@contextlib.contextmanager
def tempfile_in(root: Path) -> Iterator[None]:
    """Within the block, have Python's `tempfile` use this process's folder in a folder of temporary
    files, so that temporary files of libraries are found again, too. If the folder is empty, it is
    deleted after the block; files that a library keeps until the end are deleted with the
    process."""
    with _LOCK_OF_USERS:
        if not _USERS:
            of_the_machine()  # which is asked of tempfile, and remembered
            _BEFORE.append(tempfile.tempdir)
            tempfile.tempdir = str(folder_of_mine(root))
        _USERS.append(root)
    try:
        yield
    finally:
        with _LOCK_OF_USERS:
            _USERS.remove(root)
            if not _USERS:
                tempfile.tempdir = _BEFORE.pop()
            if root not in _USERS:
                _delete_if_empty(root)


def is_alive(root: Path, owner_id: str) -> bool | None:
    """Return whether the owner of a folder here is alive; None if that cannot be determined,
    because it is on another machine or the file system has no locks."""
    if not re.fullmatch(rf"{re.escape(platform.node())}-[0-9]+-[0-9a-f]+", owner_id):
        return None
    try:
        return is_held(root / f"{owner_id}{_LOCK}")
    except OSError:
        return None


def sweep(root: Path) -> int:
    """Delete the folders of owners that are dead; return how many."""
    swept = 0
    if not root.is_dir():
        return swept
    for path in sorted(root.glob(f"*{_LOCK}")):
        with contextlib.suppress(OSError):  # another sweeps, too
            lock = try_lock(path, Owner.here())
            if lock is None:
                continue
            try:
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                swept += 1
            finally:
                lock.release()
    return swept


@functools.cache
def of_the_machine() -> Path:
    """Return the folder for temporary files of workspaces that are in object stores."""
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"recmeta-{user}"


def _locked(path: Path, owner: Owner) -> FileLock | None:
    """Return the lock; None if the file system has no locks, in which case nobody sweeps either."""
    try:
        while (lock := try_lock(path, owner)) is None:
            time.sleep(0.01)  # another process sweeps, and found the file before it was locked
    except OSError:
        return None
    return lock


def _delete_if_empty(root: Path) -> None:
    folder = _MINE.get((root, os.getpid()), (root, None))[0]
    with contextlib.suppress(OSError):
        folder.rmdir()
        _delete(root)


def _delete(root: Path) -> None:
    """Delete this process's folder in a folder of temporary files, if it has one."""
    folder, lock = _MINE.pop((root, os.getpid()), (None, None))
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        lock.release()
    with contextlib.suppress(OSError):  # another's is in it
        root.rmdir()


@atexit.register
def _delete_all() -> None:
    for root, pid in list(_MINE):
        if pid == os.getpid():
            _delete(root)
