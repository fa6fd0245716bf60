"""The files behind a path or URL, opened as streams and identified by their content."""

import dataclasses
import hashlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from recmeta.config import fingerprint, to_dict
from recmeta.errors import UserError
from recmeta.logs.fetching.download import NotAvailableError, download
from recmeta.logs.formats import FORMATS
from recmeta.logs.mapping import AUTO, LogMapping, Source
from recmeta.logs.reading.log_format import LogFormat, SourceFile
from recmeta.progress import silent
from recmeta.workspace import Folder

TIMEOUT_SECONDS = 30
PACKED = (".gz", ".bz2", ".zst")
"""Endings of packed files."""
_ADDED = {"null_values": [], "keep_default_nulls": True, "decimal": ""}
_HASH_BLOCK = 8 * 1024 * 1024


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
        field.name: [content_id(file) for file in getattr(inputs, field.name)]
        for field in dataclasses.fields(inputs)
    }
    return fingerprint(contents, how_read(mapping))


def content_id(file: SourceFile) -> str:
    """Return the SHA-256 of a file's bytes, or what its format says of a table."""
    how: LogFormat = FORMATS[file.format]
    if how.table is not None:
        return how.table.content_id(file)
    digest = hashlib.sha256()
    with file.filesystem.open_input_stream(file.path, compression=None) as stream:
        while block := stream.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def how_read(mapping: LogMapping) -> dict[str, Any]:
    """Return what of a mapping decides which rows come out of a content, JSON-ready.

    That is all but the paths, and `max_bad_share` and `earliest_time`, which change no row: the same
    content at another place is the same source. What mappings could not say once is left out where
    it says nothing, so that a log that was ingested then is the same source now.
    """
    plain = to_dict(mapping)
    del plain["max_bad_share"], plain["earliest_time"]
    for source in (plain, plain["users"], plain["items"]):
        if source:
            del source["path"]
            for name, nothing in _ADDED.items():
                if source.get(name, nothing) == nothing:
                    source.pop(name, None)
    return plain


def format_of(path: str) -> str:
    """Return the format that a path's ending names. Raises UserError where it names none."""
    name = path.split("?")[0].rstrip("/").lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    how: LogFormat
    for format_, how in FORMATS.items():
        if name.endswith(how.endings):
            return format_
    *others, last = FORMATS
    raise UserError(
        f"cannot tell the format of {path!r} by its name: set format (--format) to "
        f"{', '.join(others)} or {last}."
    )


def resolved_format(source: Source) -> str:
    """Return a source's format, read off its path where it is `auto`. Raises UserError where that
    names none."""
    return source.format if source.format != AUTO else format_of(source.path)


def find_files(source: Source) -> list[SourceFile]:
    """Return the files of a source in the order of their names.

    Raises:
        UserError: where nothing is there, or where the format cannot be told.
    """
    path = source.path
    if path.startswith(("http://", "https://")):
        return [_download(source)]
    table = _table_at(source)
    if table is not None:
        return [table]
    folder, name = Folder.at(path), path.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    info = folder.filesystem.get_file_info(folder.path)
    if info.type == pafs.FileType.NotFound:
        raise UserError(f"there is nothing at {path!r}: check the path.")
    if info.type == pafs.FileType.File:
        return [_file(name, resolved_format(source), folder, info)]
    if info.type != pafs.FileType.Directory:
        raise UserError(
            f"{path!r} is a pipe or a device, which can be read once only: write what it gives to "
            "a file, and name that."
        )
    selector = pafs.FileSelector(folder.path, recursive=True)
    found: list[SourceFile] = []
    for entry in sorted(folder.filesystem.get_file_info(selector), key=lambda entry: entry.path):
        inner = os.path.relpath(entry.path, folder.path)
        hidden = any(part.startswith((".", "_")) for part in inner.split(os.sep))
        if entry.type == pafs.FileType.File and not hidden:
            own = source.format if source.format != AUTO else format_of(entry.path)
            found.append(_file(inner, own, folder, entry))
    if not found:
        raise UserError(f"the folder {path!r} has no files.")
    return found


def _table_at(source: Source) -> SourceFile | None:
    """Return the table that a source is; None where its format has files, not tables."""
    how: LogFormat
    for name, how in FORMATS.items():
        if how.table is None or source.format not in (AUTO, name):
            continue
        if source.format == name or Folder.at(source.path).exists(how.table.holds):
            return how.table.open(source.path)
    return None


def _file(name: str, format_: str, folder: Folder, info: pafs.FileInfo) -> SourceFile:
    return SourceFile(
        name=name,
        format=format_,
        filesystem=folder.filesystem,
        path=info.path,
        size=info.size,
    )


def _download(source: Source) -> SourceFile:
    """Copy a URL to this machine, for as long as the file's object lives."""
    format_ = resolved_format(source)
    name = urlsplit(source.path).path.rpartition("/")[2] or "download"
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
