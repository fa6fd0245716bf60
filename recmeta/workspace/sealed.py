"""Folders with digests of their files: a file is read as it was written, or an error is raised.

    digests.json   by file, its size in bytes and its SHA-256, and the digest of all that; written
                   last

A file is checked before anything parses it. Whether a folder is intact is asked often, so the
result is remembered beside the digests, with the size and the times of each file on this machine;
only a file that has changed since is read again. A copied folder is read once.

A folder of an earlier version has no digests: its files are read without a check.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.ipc as ipc

from recmeta import strict_json
from recmeta.config import fingerprint
from recmeta.errors import Broken
from recmeta.workspace.folder import Folder

DIGESTS: Final = "digests.json"
_SEEN: Final = ".digests-seen.json"
_MAKE_AGAIN: Final = (
    "Restore it from a backup, or run the command that made it again, which replaces what is "
    "broken; `recmeta doctor --verify` names every broken file."
)
log = logging.getLogger(__name__)


class Sealed(Folder):
    """A folder with the digests of its files. `sealing`, `resumed` and `sealed` make it.

    The digest of a file that is written through it is that of the intended content. A file that is
    read through it is checked first. A folder below it has digests of its own, if any.
    """

    def __init__(
        self, folder: Folder, digests: dict[str, dict[str, Any]] | None, remedy: str = _MAKE_AGAIN
    ) -> None:
        """
        Args:
            digests: `size` and `sha256` by file; None for a folder without digests.
            remedy: sentences for errors that say what to do.
        """
        super().__init__(folder.filesystem, folder.path)
        self.folder = folder
        self.digests = digests
        self.remedy = remedy

    def __truediv__(self, name: str) -> Folder:
        return self.folder / name

    def exists(self, name: str) -> bool:
        """Return whether a file (or a folder) of that name is here."""
        return self.folder.exists(name)

    def names(self) -> list[str]:
        """Return the names of the files and folders here, sorted; none if the folder is absent."""
        return self.folder.names()

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            Broken: if it is missing or differs from what was written.
        """
        with self._found(name):
            content = self.folder.read_bytes(name)
        self._check(name, content)
        return content

    def read_buffer(self, name: str) -> pa.Buffer:
        """Return a file's content, mapped into memory where the folder is on this machine.

        Raises:
            Broken: if it is missing or differs from what was written.
        """
        with self._found(name):
            content = self.folder.read_buffer(name)
        self._check(name, content)
        return content

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file and remember its digest, for `seal`."""
        self.folder.write_bytes(name, content)
        assert self.digests is not None, "whoever writes has begun the digests"
        self.digests[name] = _digest(content)

    def delete(self, name: str) -> None:
        """Delete a file, if it exists; `seal` then has no digest of it."""
        self.folder.delete(name)
        assert self.digests is not None, "whoever deletes has begun the digests"
        self.digests.pop(name, None)

    def expect(self, name: str, content: bytes) -> str:
        """Remember the digest of the content that is to be written into a file, and return the
        future `seal_digest`."""
        assert self.digests is not None, "whoever writes has begun the digests"
        self.digests[name] = _digest(content)
        found: str = _digest(self._to_bytes())["sha256"]
        return found

    def seal(self) -> None:
        """Write the digests, which declares that everything written through this folder is
        complete."""
        self.folder.write_bytes(DIGESTS, self._to_bytes())

    def _to_bytes(self) -> bytes:
        content = {"files": self.digests, "digest": fingerprint(self.digests)}
        return json.dumps(content, indent=2, sort_keys=True).encode() + b"\n"

    def has(self, name: str) -> bool:
        """Return whether a file has a digest and matches it."""
        if self.digests is None or name not in self.digests or not self.exists(name):
            return False
        return _digest(self.folder.read_bytes(name)) == self.digests[name]

    def losses(self, *, full: bool = False) -> list[str]:
        """Return sentences on which files are missing or differ from what was written.

        Args:
            full: read every file, even one that nothing has touched since it was last read.
        """
        if self.digests is None:
            return []
        now = self._stats()
        seen = {} if full else self._seen()
        found = []
        for name, known in sorted(self.digests.items()):
            if now[name] is None:
                found.append(f"{self.path}/{name} is missing")
            elif now[name] == seen.get(name):
                continue
            elif _digest(self.folder.read_buffer(name)) != known:
                found.append(f"{self.path}/{name} is not what was written")
                del now[name]
        if now != seen:
            self._remember(now)
        return found

    def _stats(self) -> dict[str, list[int] | None]:
        """Return by name the attributes that show that a file has not been touched; None for a
        missing file. They differ for a copy of it, or another file in its place."""
        assert self.digests is not None
        found: dict[str, list[int] | None] = {}
        if not self.is_local:
            names = list(self.digests)
            infos = self.filesystem.get_file_info([f"{self.path}/{name}" for name in names])
            for name, info in zip(names, infos, strict=True):
                there = info.type == pafs.FileType.File
                found[name] = [info.size, info.mtime_ns or 0] if there else None
            return found
        for name in self.digests:
            try:
                stat = os.stat(self.local_path(name))
            except OSError:
                found[name] = None
            else:
                found[name] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        return found

    def _seen(self) -> dict[str, list[int] | None]:
        """Return `_stats` of the files that were found intact; nothing if that is not known for
        these digests."""
        try:
            known = self.folder.read_json(_SEEN)
            same = known["digests"] == _digest(self.folder.read_bytes(DIGESTS))["sha256"]
            return dict(known["files"]) if same else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _remember(self, stats: dict[str, list[int] | None]) -> None:
        """Store the result, if the folder can be written to; this only saves time."""
        with contextlib.suppress(OSError):
            digests = _digest(self.folder.read_bytes(DIGESTS))["sha256"]
            self.folder.write_json(_SEEN, {"digests": digests, "files": stats})

    @contextlib.contextmanager
    def _found(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Broken(f"{self.path}/{name} is missing. {self.remedy}") from error

    def _check(self, name: str, content: bytes | pa.Buffer) -> None:
        if self.digests is None or name == DIGESTS:
            return
        known = self.digests.get(name)
        if known is None:
            raise Broken(f"{self.path}/{DIGESTS} has no digest of {name}. {self.remedy}")
        if _digest(content) != known:
            with contextlib.suppress(OSError):  # the next process must not rely on it
                self.folder.delete(_SEEN)
            raise Broken(f"{self.path}/{name} is not what was written. {self.remedy}")


@contextlib.contextmanager
def sealing(folder: Folder) -> Iterator[Sealed]:
    """Yield a folder to write an artefact into; its digests are written when everything is.

    Within the sealing of the same folder, it is sealed at that one's end.
    """
    if isinstance(folder, Sealed):
        yield folder
        return
    place = Sealed(folder, {})
    yield place
    place.seal()
    if place.is_local:  # what has just been written need not be read again
        place._remember(place._stats())


def resumed(folder: Folder) -> Sealed:
    """Return a folder that is written file by file, and sealed after each. `Sealed.has` ignores
    files that were written before and have no digest."""
    try:
        digests = _read(folder)
    except Broken as error:
        log.warning("an unfinished file is made again: %s", error)
        digests = None
    return Sealed(folder, digests or {})


def sealed(folder: Folder, remedy: str = _MAKE_AGAIN) -> Sealed:
    """Return a finished artefact's folder, to be read.

    Args:
        remedy: sentences for errors that say what to do.

    Raises:
        Broken: if its digests cannot be read.
    """
    if isinstance(folder, Sealed):
        return folder
    try:
        return Sealed(folder, _read(folder), remedy)
    except Broken as error:
        raise Broken(f"{error} {remedy}") from error


def seal_digest(folder: Folder) -> str | None:
    """Return the digest of a folder's digests, which identifies all its files; None if it has
    none."""
    if not folder.exists(DIGESTS):
        return None
    found: str = _digest(folder.read_bytes(DIGESTS))["sha256"]
    return found


def arrow_table(content: pa.Buffer, place: str) -> pa.Table:
    """Return the table in an Arrow file after a full check: no offset in its buffers leads outside
    them.

    Args:
        place: where the file is, for the message.

    Raises:
        Broken: if it is not such a file.
    """
    try:
        table = ipc.open_file(content).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Broken(f"{place} is not a complete Arrow file: {error}. {_MAKE_AGAIN}") from error
    return table


def _read(folder: Folder) -> dict[str, dict[str, Any]] | None:
    """Return the digests of a folder; None if it has none.

    Raises:
        Broken: if the file cannot be what was written.
    """
    if not folder.exists(DIGESTS):
        return None
    place = f"{folder.path}/{DIGESTS}"
    try:
        content = strict_json.loads(folder.read_bytes(DIGESTS))
        files: dict[str, dict[str, Any]] = content["files"]
        if content["digest"] != fingerprint(files):
            raise ValueError(content["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Broken(f"{place} is not what was written.") from error
    return files


def _digest(content: bytes | pa.Buffer) -> dict[str, Any]:
    return {"size": len(memoryview(content)), "sha256": hashlib.sha256(content).hexdigest()}
