"""A folder on a local disk, in an object store or in memory, with whole-file reads and atomic
writes."""

import contextlib
import errno
import io
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from recmeta import strict_json
from recmeta.errors import UserError
from recmeta.workspace.object_store import with_timeouts

_NO_FILESYSTEM = pafs.SubTreeFileSystem("/dev/null", pafs.LocalFileSystem())
"""The path of folders in memory, to which nothing can be written."""


class Folder:
    """A folder on a local disk or in an object store, with whole-file reads and atomic writes."""

    def __init__(
        self, filesystem: pafs.FileSystem, path: str, root: "Folder | None" = None
    ) -> None:
        """Name a folder; nothing is made yet.

        Args:
            root: the folder that holds the temporary files of this one; if None, they are beside
                their final files.
        """
        self.filesystem = filesystem
        self.path = path
        self._root = root

    @classmethod
    def at(cls, location: str | os.PathLike[str]) -> "Folder":
        """Return the folder at a local path or an object-store URL (`s3://…`, `gs://…`).

        Raises:
            UserError: for a URL whose scheme is unknown.
        """
        text = os.fspath(location)
        if "://" not in text:
            return Folder(pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text)))
        try:
            filesystem, path = pafs.FileSystem.from_uri(_with_endpoint(text))
        except (ValueError, OSError) as error:
            raise UserError(f"cannot open the location {text!r}: {error}") from error
        return Folder(with_timeouts(filesystem), path.rstrip("/"))

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.filesystem, self.address(name), self._root)

    def address(self, name: str) -> str:
        """Return the path of a file or folder below this one.

        Manifests and digests name files; whoever can write one must not reach files outside the
        workspace.

        Raises:
            UserError: if a name leads out of the folder.
        """
        if ".." in name.split("/"):
            raise UserError(
                f"{name!r} leads out of {self.path}: whatever names it was not written by recmeta, "
                "and is not followed."
            )
        return f"{self.path}/{name}"

    @property
    def is_local(self) -> bool:
        """Whether `path` is a path of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def exists(self, name: str) -> bool:
        """Return whether a file (or a folder) of that name is here."""
        info = self.filesystem.get_file_info(self.address(name))
        return bool(info.type != pafs.FileType.NotFound)

    def names(self) -> list[str]:
        """Return the names of the files and folders here, sorted; none if the folder is absent."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        return sorted(
            i.base_name
            for i in self.filesystem.get_file_info(selector)
            if not i.base_name.startswith(".")
        )

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError if there is none."""
        with self.filesystem.open_input_stream(self.address(name)) as stream:
            content: bytes = stream.read()
        return content

    def read_buffer(self, name: str) -> pa.Buffer:
        """Return a file's content, mapped into memory if the folder is on this machine. Raises
        FileNotFoundError if there is none."""
        if not self.is_local:
            return pa.py_buffer(self.read_bytes(name))
        with pa.memory_map(self.local_path(name)) as file:
            return file.read_buffer()

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file so that a reader sees the old content or the new one, never a part."""
        target = self.address(name)
        temporary = self._temporary() if self.is_local else None  # which makes the workspace
        self.filesystem.create_dir(os.path.dirname(target), recursive=True)
        if not self.is_local:  # a PUT is atomic
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            return
        _replace(target, content, temporary)

    def _temporary(self) -> Path | None:
        """Return where a file is written before it gets its name; if None, beside it."""
        return None if self._root is None else self._root._temporary()

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.address(name))

    def delete_folder(self, name: str) -> None:
        """Delete a folder below this one with all its content, if it exists.

        Raises:
            UserError: for a name that leads out of the folder, or to itself.
        """
        if not name.strip("./"):
            raise UserError(f"{name!r} is all of {self.path}, which is not deleted.")
        if self.exists(name):
            self.filesystem.delete_dir(self.address(name))

    def read_json(self, name: str) -> Any:
        """Return the value of a JSON file.

        Raises:
            FileNotFoundError: if there is none.
            UserError: if it is not JSON, or repeats a key.
        """
        content = self.read_bytes(name)
        try:
            return strict_json.loads(content)
        except ValueError as error:
            raise UserError(f"{self.path}/{name} is broken: {error}.") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as an indented JSON file, atomically."""
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
        self.write_bytes(name, text.encode() + b"\n")

    def write_parquet(self, name: str, table: pa.Table) -> None:
        """Write a table as a Parquet file, atomically."""
        self.write_bytes(name, parquet_bytes(table))

    def read_parquet(self, name: str) -> pa.Table:
        """Return the table in a Parquet file."""
        return pq.read_table(pa.BufferReader(self.read_bytes(name)))

    def local_path(self, name: str = "") -> str:
        """Return a path of this machine. Raises UserError for an object store."""
        if not self.is_local:
            raise UserError(f"{self.path} is in an object store; this needs a local folder.")
        return self.address(name) if name else self.path


class MemoryFolder(Folder):
    """A folder that exists only in memory, as do the folders below it."""

    def __init__(self, files: dict[str, bytes] | None = None, path: str = "") -> None:
        super().__init__(_NO_FILESYSTEM, path)
        self._files: dict[str, bytes] = {} if files is None else files

    @classmethod
    def copy_of(cls, folder: Folder, names: Iterable[str]) -> "MemoryFolder":
        """Return files of a folder with their contents, to be sent to another process.

        Args:
            names: of the files; missing ones are left out.
        """
        found = cls()
        for name in names:
            if folder.exists(name):
                found.write_bytes(name, folder.read_bytes(name))
        return found

    def __truediv__(self, name: str) -> "MemoryFolder":
        return MemoryFolder(self._files, self.address(name))

    def exists(self, name: str) -> bool:
        """Return whether a file (or a folder) of that name is here."""
        place = self.address(name)
        return place in self._files or any(p.startswith(f"{place}/") for p in self._files)

    def names(self) -> list[str]:
        """Return the names of the files and folders here, sorted."""
        start = f"{self.path}/"
        inside = (p.removeprefix(start) for p in self._files if p.startswith(start))
        return sorted({name.partition("/")[0] for name in inside})

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError if there is none."""
        try:
            return self._files[self.address(name)]
        except KeyError:
            raise FileNotFoundError(f"{self.path}/{name}") from None

    def write_bytes(self, name: str, content: bytes) -> None:
        """Keep a file's content."""
        self._files[self.address(name)] = content

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        self._files.pop(self.address(name), None)


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _replace(target: str, content: bytes, temporary: Path | None) -> None:
    """Write a file under another name, and give it its own name when it is complete and on the
    disk."""
    folder, base = os.path.split(target)
    unfinished = os.path.join(temporary or folder, f".{base}.{uuid.uuid4().hex[:8]}")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException as error:  # a part of it would keep a full disk full
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        if temporary is not None and getattr(error, "errno", None) == errno.EXDEV:
            _replace(target, content, None)  # the folder is a mount of its own
            return
        raise
    sync_folder(folder)


def sync_folder(path: str) -> None:
    """Sync the names in a folder to the disk: otherwise a rename is lost if the power fails."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some file systems sync no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _with_endpoint(uri: str) -> str:
    """Let `AWS_ENDPOINT_URL`, which deltalake reads too, name an S3-compatible server."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not uri.startswith("s3://") or not endpoint or "endpoint_override" in uri:
        return uri
    scheme, _, host = endpoint.partition("://")
    joint = "&" if "?" in uri else "?"
    return f"{uri}{joint}scheme={scheme}&endpoint_override={host}"
