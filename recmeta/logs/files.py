"""The files behind a path or URL, opened as streams and identified by their content."""

import dataclasses
import hashlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from recmeta.config import fingerprint, to_dict
from recmeta.errors import UserError
from recmeta.logs.download import NotAvailableError, download
from recmeta.logs.mapping import Format, LogMapping, Source, format_of
from recmeta.progress import silent
from recmeta.workspace import Folder

TIMEOUT_SECONDS = 30
_HASH_BLOCK = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file, or one Delta table at one version."""

    name: str
    """What users see: the file's name, within a folder with its path there."""
    format: Format
    filesystem: pafs.FileSystem
    path: str
    size: int = 0
    """Bytes as stored; 0 where unknown."""
    version: int | None = None
    """Of a Delta table."""

    def open(self) -> Any:
        """Return a binary stream of the content, unpacked by the name's .gz, .bz2 or .zst."""
        return self.filesystem.open_input_stream(self.path, compression="detect")

    def content_id(self) -> str:
        """Return the SHA-256 of the bytes, or a Delta table's id and version."""
        if self.format == "delta":
            table = DeltaTable(self.path, version=self.version)
            return f"delta:{table.metadata().id}:{self.version}"
        digest = hashlib.sha256()
        with self.filesystem.open_input_stream(self.path, compression=None) as stream:
            while block := stream.read(_HASH_BLOCK):
                digest.update(block)
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that one ingest reads."""

    log: list[SourceFile]
    users: list[SourceFile]
    items: list[SourceFile]

    @classmethod
    def of(cls, mapping: LogMapping) -> "Inputs":
        """Find the files of a mapping. Raises UserError where there are none."""
        return cls(
            log=find_files(mapping),
            users=find_files(mapping.users) if mapping.users else [],
            items=find_files(mapping.items) if mapping.items else [],
        )


def source_id(mapping: LogMapping, inputs: Inputs) -> str:
    """Return the fingerprint of the files' content and of how it is read.

    Where the files lie does not count; see `how_read`.
    """
    contents = {
        field.name: [file.content_id() for file in getattr(inputs, field.name)]
        for field in dataclasses.fields(inputs)
    }
    return fingerprint(contents, how_read(mapping))


def how_read(mapping: LogMapping) -> dict[str, Any]:
    """Return what of a mapping decides which rows come out of a content, JSON-ready.

    That is all but the paths and `max_bad_share`, which changes no row: the same content at another
    place is the same source.
    """
    plain = to_dict(mapping)
    del plain["path"], plain["max_bad_share"]
    for section in ("users", "items"):
        if plain[section]:
            del plain[section]["path"]
    return plain


def find_files(source: Source) -> list[SourceFile]:
    """Return the files of a source in the order of their names.

    Raises:
        UserError: where nothing is there, or where the format cannot be told.
    """
    path = source.path
    if path.startswith(("http://", "https://")):
        return [_download(source)]
    if source.format == "delta" or (source.format == "auto" and _is_delta(path)):
        return [_delta_table(path)]
    folder, name = Folder.at(path), path.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    info = folder.filesystem.get_file_info(folder.path)
    if info.type == pafs.FileType.NotFound:
        raise UserError(f"there is nothing at {path!r}: check the path.")
    if info.type == pafs.FileType.File:
        return [_file(name, source.resolved_format, folder, info)]
    selector = pafs.FileSelector(folder.path, recursive=True)
    found: list[SourceFile] = []
    for entry in sorted(folder.filesystem.get_file_info(selector), key=lambda entry: entry.path):
        inner = os.path.relpath(entry.path, folder.path)
        hidden = any(part.startswith((".", "_")) for part in inner.split(os.sep))
        if entry.type == pafs.FileType.File and not hidden:
            format_ = source.format if source.format != "auto" else format_of(entry.path)
            found.append(_file(inner, format_, folder, entry))
    if not found:
        raise UserError(f"the folder {path!r} has no files.")
    return found


def _file(name: str, format_: Format, folder: Folder, info: pafs.FileInfo) -> SourceFile:
    return SourceFile(
        name=name,
        format=format_,
        filesystem=folder.filesystem,
        path=info.path,
        size=info.size,
    )


def _is_delta(path: str) -> bool:
    return Folder.at(path).exists("_delta_log")


def _delta_table(path: str) -> SourceFile:
    try:
        version = DeltaTable(path).version()
    except DeltaError as error:
        raise UserError(f"cannot open the Delta table at {path!r}: {error}") from error
    return SourceFile(
        name=path.rstrip("/").rsplit("/", 1)[-1],
        format="delta",
        filesystem=pafs.LocalFileSystem(),
        path=path,
        version=version,
    )


def _download(source: Source) -> SourceFile:
    """Copy a URL to this machine, for as long as the file's object lives."""
    format_ = source.resolved_format
    name = source.path.split("?")[0].rsplit("/", 1)[-1] or "download"
    folder = tempfile.mkdtemp(prefix="recmeta-")
    path = Path(folder, name)
    local = pafs.LocalFileSystem()
    file = SourceFile(name=name, format=format_, filesystem=local, path=str(path))
    weakref.finalize(file, shutil.rmtree, folder, ignore_errors=True)
    try:
        download(source.path, path, None, silent, timeout=TIMEOUT_SECONDS)
    except NotAvailableError as error:
        raise UserError(
            f"cannot download {error}. Download it yourself and give the local path."
        ) from error
    return file
