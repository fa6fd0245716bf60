"""a workspace ──▶ a complete copy of it, while training and readers go on.

The writer's lock is held meanwhile, so that no table, list or alias changes. The output of a
training is copied in an order in which nothing names a file that the copy does not have: MLflow's
database and the manifests come first, since they are written after the files that they name. A
workspace does not hold its own address, so that the copy works anywhere.
"""

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from recmeta.errors import UserError
from recmeta.workspace import Workspace, writes

FIRST = "manifests"
SQLITE = b"SQLite format 3\0"
"""How each of SQLite's files begins."""
BESIDE_SQLITE = ("-journal", "-wal", "-shm")
"""Endings of the files that belong to one that is open."""
NOT_KEPT = (".locks", ".tmp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backup:
    """What was copied."""

    folder: str
    num_files: int
    num_bytes: int


@writes
def run(workspace: Workspace, target: str) -> Backup:
    """Copy a workspace into a folder, which in the end is complete or does not exist. Whoever may
    not read the workspace may not read the copy.

    Raises:
        UserError: if the workspace is in an object store or does not exist, or if the target exists
            already or lies in the workspace.
    """
    root = Path(workspace.local_path()).resolve()
    folder = Path(target).absolute()
    workspace.require_made()
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} exists already: name a folder that does not exist yet.")
    if folder.parent.resolve().is_relative_to(root):
        raise UserError(f"{folder} lies in the workspace: name a folder outside of it.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.mkdir(mode=_permissions(root))
    try:
        copied = [_copy(path, unfinished / path.relative_to(root)) for path in _files(root)]
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sizes = [size for size in copied if size is not None]
    return Backup(folder=str(folder), num_files=len(sizes), num_bytes=sum(sizes))


def _files(root: Path) -> Iterator[Path]:
    """Yield the files to be copied: databases, then manifests, then the others, found last."""
    found = list(_walked(root))
    yield from (path for path in found if _is_database(path))
    yield from _walked(root / FIRST)
    for path in _walked(root):
        if not path.is_relative_to(root / FIRST) and not _is_database(path):
            yield path


def _walked(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in NOT_KEPT]
        yield from (Path(place) / n for n in sorted(names) if not n.endswith(BESIDE_SQLITE))


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:  # gone since, or a socket
        return False


def _copy(path: Path, target: Path) -> int | None:
    """Copy a file; return its size, or None if it no longer exists, like a checkpoint of a
    training."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_database(path):
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _permissions(path)))
        address = f"file:{quote(str(path))}?mode=ro"
        with (
            contextlib.closing(sqlite3.connect(address, uri=True, timeout=60)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    else:
        try:
            shutil.copy2(path, target)
        except FileNotFoundError:
            return None
    return target.stat().st_size


def _permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
