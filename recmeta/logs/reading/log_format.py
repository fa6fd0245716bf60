"""What a format of logs is: the files it reads, and how.

A format is a file in `recmeta/logs/formats/`, whose name is the format's. It reads a source's files
into batches that have the columns asked for, renamed to their roles, and say for each row where it
was (`line`), its text there (`raw`) and which of the FAULTS its form has.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow.fs as pafs

from recmeta.errors import UserError, did_you_mean, listed, shown
from recmeta.logs.limits import Bounded
from recmeta.logs.mapping import Source
from recmeta.logs.reading import packing
from recmeta.logs.reading.lines import WRONG_ENCODING
from recmeta.logs.reading.records import RAGGED
from recmeta.schema import RAW

UNPARSABLE_JSON = "unparsable_json"
REPEATED_KEY = "repeated_key"
FAULTS = (WRONG_ENCODING, RAGGED, UNPARSABLE_JSON, REPEATED_KEY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file, or one Delta table at one version."""

    name: str
    """The name that users see: the file's name or, within a folder, its path there."""
    format: str
    """A name in `recmeta.logs.formats.FORMATS`."""
    filesystem: pafs.FileSystem
    path: str
    size: int = 0
    """Bytes as stored; 0 where unknown."""
    version: int | None = None
    """The version of a Delta table."""
    member: str = ""
    """The file's name in the zip archive at `path`. If empty, `path` is the file itself."""
    partitions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    """Columns whose values are in the names of the file's folders, such as `dt=2024-01-31`."""
    passed_over: Counter[str] = dataclasses.field(default_factory=Counter, compare=False)
    """Numbers of lines that are not rows, by kind, as far as the file has been read."""
    header: tuple[str, ...] = ()
    """The columns of the folder's first file, for a part that has no header line of its own."""

    def open(self) -> Any:
        """Return a binary stream of the content, unpacked where it is packed, whatever its name.

        Reading it raises UserError if it unpacks to more than `limits` allow.
        """
        stored = self.open_stored()
        size = self.size or self.filesystem.get_file_info(self.path).size
        return Bounded(packing.unpacked(stored), self.name, size)

    def open_stored(self) -> Any:
        """Return a binary stream of the file as it is stored, in which one can seek."""
        archive = self.filesystem.open_input_file(self.path)
        return packing.member_of(archive, self.member, self.name) if self.member else archive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """The columns to read from a source."""

    columns: Mapping[str, str]
    """Role to column name."""
    may_break_lines: frozenset[str] = frozenset()
    """The roles whose quoted fields may hold line breaks; ids, times and values never do."""
    raw_as_text: bool = True
    """If false, `raw` of typed rows is the structure from which `text_of` makes its text. Making
    the text takes longer than the rest of reading, and is needed for few rows."""


def text_of(dtype: pl.DataType) -> pl.Expr:
    """Return the text of a column `raw` of this type."""
    raw = pl.col(RAW)
    return raw if dtype == pl.String else raw.struct.json_encode()


Reader = Callable[[Source, SourceFile, Wanted], Iterator[pl.DataFrame]]
"""Yields a file's rows, in batches of any size. Raises UserError if a wanted column is missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogFormat:
    """A format of logs."""

    read: Reader
    column_names: Callable[[Source, SourceFile], list[str]]
    """Returns the names of a file's columns, in their order."""
    paths: Callable[[Source, SourceFile], list[str]] | None = None
    """Returns the names of a file's columns, then the paths of the values within them. None if
    cells of this format hold no structures."""
    endings: tuple[str, ...] = ()
    """How names of such files end; `.gz`, `.bz2`, `.zst`, `.xz` or `.zip` may follow where they are
    read by `SourceFile.open`."""
    has_header: bool = False
    """Whether the columns' names stand in a line of their own, which a part of a folder may
    lack."""
    table: "TableFolder | None" = None
    """For a format in which a folder is one table rather than many files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableFolder:
    """How a folder is a table."""

    holds: str
    """A name that the folder of such a table contains, and no other folder."""
    open: Callable[[str], SourceFile]
    """Returns the table at a path, as it stands. Raises UserError where there is none."""
    content_id: Callable[[SourceFile], str]
    """Returns what identifies the content of the table."""


def positions(names: list[str], wanted: Wanted, name: str, hint: str = "") -> dict[str, int]:
    """Return the index of each role's column. Raises UserError where there is none, or two."""
    for column in wanted.columns.values():
        if names.count(column) > 1:
            raise UserError(f"{name!r} has {names.count(column)} columns named {column!r}.")
        if column not in names:
            raise UserError(
                f"{name!r} has no column {shown(column)}.{did_you_mean(column, names)} "
                f"It has: {listed(names)}.{hint}"
            )
    return {role: names.index(column) for role, column in wanted.columns.items()}
