"""The files behind a path or URL, opened as streams and identified by their content."""

import dataclasses
import hashlib
import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from recmeta.config import fingerprint, to_dict
from recmeta.errors import UserError
from recmeta.logs.fetching.download import NotAvailableError, download
from recmeta.logs.formats import FORMATS
from recmeta.logs.mapping import AUTO, LogMapping, Source
from recmeta.logs.reading import packing
from recmeta.logs.reading.log_format import LogFormat, SourceFile
from recmeta.progress import silent
from recmeta.workspace import Folder

TIMEOUT_SECONDS = 30
NOTES = ("readme", "license", "licence", "changes", "changelog", "copying", "notice")
"""How the names of files begin, in lower case, that people put beside the data."""
_ADDED = {"null_values": [], "keep_default_nulls": True, "decimal": "", "header": True,
    "item_separator": "", "item_suffix": "", "layout": "rows", "skip_columns": [], "sheet": "",
}  # fmt: skip
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
HEAD_BYTES = 16
_HASH_BLOCK = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """Everything that one ingest reads."""

    log: list[SourceFile]
    users: list[SourceFile]
    items: list[SourceFile]

    @classmethod
    def of(cls, mapping: LogMapping) -> "Inputs":
        """Find the files of a mapping. Raises UserError if there are none."""
        return cls(
            log=find_files(mapping),
            users=find_files(mapping.users) if mapping.users else [],
            items=find_files(mapping.items) if mapping.items else [],
        )


def source_id(mapping: LogMapping, inputs: Inputs) -> str:
    """Return the fingerprint of the files' content and of how it is read.

    The location of the files does not count, except for columns whose values are in the names of
    folders; see `how_read`.
    """
    read = {getattr(mapping, name) for name in ("user_col", "item_col", "time_col", "event_col")}
    read |= {mapping.value_col}

    def of(file: SourceFile) -> Any:
        said = {name: value for name, value in file.partitions.items() if name in read}
        return [content_id(file), said] if said else content_id(file)

    contents = {
        field.name: [of(file) for file in getattr(inputs, field.name)]
        for field in dataclasses.fields(inputs)
    }
    return fingerprint(contents, how_read(mapping))


def content_id(file: SourceFile) -> str:
    """Return the SHA-256 of a file's bytes, or the identity that its format gives for a table."""
    how: LogFormat = FORMATS[file.format]
    if how.table is not None:
        return how.table.content_id(file)
    digest = hashlib.sha256()
    with file.open_stored() as stream:
        while block := stream.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def how_read(mapping: LogMapping) -> dict[str, Any]:
    """Return the part of a mapping that decides which rows a content gives, JSON-ready.

    That is everything except the paths, `max_bad_share` and `earliest_time`, which change no row:
    the same content at another place is the same source. Keys that earlier versions did not have
    are left out at their defaults, so that a log that was ingested then is the same source now.
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
    """Return the format that a path's ending names. Raises UserError if it names none."""
    name = path.split("?")[0].rstrip("/").lower()
    for packed in (packing.ARCHIVE, *packing.ENDINGS):
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
    """Return a source's format, taken from its path if it is `auto`. Raises UserError if that names
    none."""
    return source.format if source.format != AUTO else format_of(source.path)


def find_files(source: Source) -> list[SourceFile]:
    """Return the files of a source in the order of their names.

    Raises:
        UserError: if nothing is there, or the format cannot be determined.
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
    in_path = _partitions(folder.path)
    if info.type == pafs.FileType.File:
        if name.lower().endswith(packing.ARCHIVE):
            return _in_archive(source, _file(name, "", folder, info))
        return [dataclasses.replace(_named(source, name, folder, info), partitions=in_path)]
    if info.type != pafs.FileType.Directory:
        raise UserError(
            f"{path!r} is a pipe or a device, which can be read only once: write its output to a "
            "file, and name that file."
        )
    selector = pafs.FileSelector(folder.path, recursive=True)
    entries = [
        (os.path.relpath(entry.path, folder.path), entry)
        for entry in sorted(folder.filesystem.get_file_info(selector), key=lambda e: e.path)
        if entry.type == pafs.FileType.File
    ]
    entries = [(inner, entry) for inner, entry in entries if not packing.is_hidden(inner)]
    if not entries:
        raise UserError(f"the folder {path!r} has no files.")
    found: list[SourceFile] = []
    for inner, entry in _of_the_log(source, entries):
        if inner.lower().endswith(packing.ARCHIVE):
            found += _in_archive(source, _file(inner, "", folder, entry))
            continue
        partitions = in_path | _partitions(inner)
        found.append(
            dataclasses.replace(_named(source, inner, folder, entry), partitions=partitions)
        )
    return found


def _of_the_log(
    source: Source, entries: list[tuple[str, pafs.FileInfo]]
) -> list[tuple[str, pafs.FileInfo]]:
    """Return the data files of a folder, without notes, files of no known format among files of a
    known one, and empty parts. At least one file is always kept."""
    known = [(inner, entry) for inner, entry in entries if not _is_note(inner)] or entries
    if source.format == AUTO:
        known = [(inner, entry) for inner, entry in known if _has_format(inner)] or known
    return [(inner, entry) for inner, entry in known if entry.size != 0] or known[:1]


def _is_note(name: str) -> bool:
    return name.replace(os.sep, "/").rsplit("/", 1)[-1].lower().startswith(NOTES)


def _has_format(name: str) -> bool:
    try:
        format_of(name)
    except UserError:
        return name.lower().endswith(packing.ARCHIVE)
    return True


def _partitions(path: str) -> dict[str, str | None]:
    """Return the columns in the names of folders, as Hive and Spark write them."""
    found: dict[str, str | None] = {}
    for part in path.replace(os.sep, "/").split("/")[:]:
        name, equals, value = part.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_][\w.-]*", name):
            found[name] = None if value == HIVE_NULL else unquote(value)
    return found


def _in_archive(source: Source, archive: SourceFile) -> list[SourceFile]:
    """Return the files of the log in a zip archive."""
    with archive.open_stored() as stream:
        names = packing.members(stream, archive.name)
    wanted = [(name, size) for name, size in names if not _is_note(name)]
    if source.format == AUTO:
        own = archive.name[: -len(packing.ARCHIVE)]
        known = [(name, size) for name, size in wanted if _has_format(name)]
        if not known and _has_format(own):  # a.csv.zip holds a.csv, whatever its name there
            return [_member(archive, name, size, format_of(own)) for name, size in wanted]
        wanted = known
    if not wanted:
        raise UserError(
            f"the archive {archive.name!r} has no file of a known format: set format (--format)."
        )
    return [
        _member(archive, name, size, source.format if source.format != AUTO else format_of(name))
        for name, size in wanted
    ]


def _member(archive: SourceFile, name: str, size: int, format_: str) -> SourceFile:
    return dataclasses.replace(
        archive,
        name=f"{archive.name}/{name}",
        format=format_,
        member=name,
        size=max(size, 1),
        partitions=_partitions(name),
    )


def _named(source: Source, name: str, folder: Folder, info: pafs.FileInfo) -> SourceFile:
    """Return a file in the format that the source or its name gives.

    Raises:
        UserError: if neither does; the message says what the file seems to be.
    """
    if source.format != AUTO:
        return _file(name, source.format, folder, info)
    try:
        return _file(name, format_of(info.path), folder, info)
    except UserError as error:
        with _file(name, "", folder, info).open() as stream:
            what = packing.what_else(stream.peek(HEAD_BYTES))
        if what:
            raise UserError(f"{name!r} is {what}.") from error
        raise


def _table_at(source: Source) -> SourceFile | None:
    """Return the table that a source is; None if its format has files, not tables."""
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
