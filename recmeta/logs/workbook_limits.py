"""How much memory the sheets of a workbook take, found before anything is allocated for them.

A reader of sheets allocates the rectangle from the first cell to the last, so that two cells far
apart, or one that is said to be repeated a million times, can fill memory.
"""

import functools
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO
from xml.parsers import expat

from recmeta.errors import UserError
from recmeta.logs.limits import check_unpacked
from recmeta.logs.reading import packing

MAX_CELLS = 100_000_000
"""The most cells of the rectangle that a sheet spans, including empty ones."""
_BLOCK = 1024 * 1024
_XLSX_CELL = re.compile(rb"<(?:\w+:)?c\s[^<>]*?\br=[\"']([A-Z]{1,3})(\d{1,7})[\"']")
_LONGEST_CELL = 512
"""Bytes of the longest start of a cell that is looked for, where blocks meet."""
_XLSB_ROW = 0
_XLSB_CELLS = range(1, 12)
Extent = tuple[int, int]
"""The last row and the last column that hold a cell, from 1; 0 if there is none."""


def check_workbook(content: bytes, name: str) -> None:
    """Check that a zipped workbook (.xlsx, .xlsm, .xlsb, .ods) unpacks to what memory can hold.

    Raises:
        UserError: if it does not, or is not a workbook.
    """
    unpacked = 0

    def blocks(stream: IO[bytes]) -> Iterator[bytes]:
        nonlocal unpacked
        while block := stream.read(_BLOCK):
            unpacked += len(block)
            check_unpacked(name, len(content), unpacked)
            yield block

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sheets, extent = _kind(archive.namelist(), name)
            for entry in archive.infolist():
                entry.file_size = 2**62  # all of it is counted, whatever it says of itself
                with archive.open(entry) as stream:
                    if re.match(sheets, entry.filename):
                        _check_extent(extent(blocks(stream)), name)
                    for _ in blocks(stream):
                        pass
    except UserError:
        raise
    except expat.ExpatError as error:
        raise UserError(
            f"cannot read the workbook {name!r}: its sheets are not valid XML ({error}). If it "
            "opens in a spreadsheet, save its sheet as CSV."
        ) from error
    except packing.BROKEN_ARCHIVE as error:
        raise UserError(
            f"cannot read the workbook {name!r}: {error}. It may be cut short or locked by a "
            "password."
        ) from error


def _kind(parts: list[str], name: str) -> tuple[str, Callable[[Iterable[bytes]], Extent]]:
    """Return a pattern of the parts that are sheets, and what finds the extent of one."""
    for main, sheets, extent in (
        ("xl/workbook.xml", r"xl/worksheets/", _extent_of_xlsx),
        ("xl/workbook.bin", r"xl/worksheets/sheet[^/]*\.bin", _extent_of_xlsb),
        ("content.xml", r"content\.xml", _extent_of_ods),
    ):
        if main in parts:
            return sheets, extent
    raise UserError(
        f"{name!r} is not a workbook (.xlsx, .xlsm, .xlsb, .xls or .ods): save its table as one, "
        "or as CSV."
    )


def _check_extent(extent: Extent, name: str) -> None:
    rows, columns = extent
    if rows * columns > MAX_CELLS:
        raise UserError(
            f"a sheet of {name!r} has cells as far as row {rows:,} and column {columns:,}: delete "
            "the cells outside the table, or save the table as CSV."
        )


def _extent_of_xlsx(blocks: Iterable[bytes]) -> Extent:
    rows = columns = 0
    rest = b""
    for block in blocks:
        for letters, row in _XLSX_CELL.findall(rest + block):
            rows = max(rows, int(row))
            columns = max(columns, _number(letters))
        rest = block[-_LONGEST_CELL:]
    return rows, columns


def _number(letters: bytes) -> int:
    """Return the number of a column: 1 for A, 27 for AA."""
    return functools.reduce(lambda number, letter: number * 26 + letter - ord("A") + 1, letters, 0)


def _extent_of_xlsb(blocks: Iterable[bytes]) -> Extent:
    """Return the extent of a sheet of records (MS-XLSB 2.1.4), each with its type, its size and its
    content, of which the first four bytes are a row's or a cell's place."""
    rows = columns = row = 0
    rest = b""
    for block in blocks:
        data, at = rest + block, 0
        while (record := _record(data, at)) is not None:
            kind, start, end = record
            place = int.from_bytes(data[start : min(start + 4, end)], "little")
            if kind == _XLSB_ROW:
                row = place + 1
            elif kind in _XLSB_CELLS:
                rows, columns = max(rows, row), max(columns, place + 1)
            at = end
        rest = data[at:]
    return rows, columns


def _record(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return a record's type, and where its content begins and ends; None if not all is there."""
    numbers = []
    for longest in (2, 4):
        number = shift = 0
        for _ in range(longest):
            if at >= len(data):
                return None
            byte, at = data[at], at + 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(number)
    kind, size = numbers
    return (kind, at, at + size) if at + size <= len(data) else None


class _OdsRows:
    """The extent of the tables in an OpenDocument spreadsheet, whose rows and cells say how often
    they are repeated; empty ones at the end, which programs write, take no memory."""

    def __init__(self) -> None:
        self.extent: Extent = (0, 0)
        self._row = self._repeats = self._column = self._last = self._cell = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table:table":
            self._row = 0
        elif name == "table:table-row":
            self._repeats = _repeats(attributes, "table:number-rows-repeated")
            self._column = self._last = 0
        elif name in ("table:table-cell", "table:covered-table-cell"):
            self._cell = _repeats(attributes, "table:number-columns-repeated")
            self._column += self._cell
            if any(key.startswith("office:") for key in attributes):
                self._last = self._column

    def text(self, text: str) -> None:
        if self._cell and text.strip():
            self._last = self._column

    def end(self, name: str) -> None:
        if name in ("table:table-cell", "table:covered-table-cell"):
            self._cell = 0
        elif name == "table:table-row":
            self._row += self._repeats
            if self._last:
                rows, columns = self.extent
                self.extent = (max(rows, self._row), max(columns, self._last))


def _repeats(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "1")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 1


def _extent_of_ods(blocks: Iterable[bytes]) -> Extent:
    rows = _OdsRows()
    parser = expat.ParserCreate()
    parser.StartElementHandler = rows.start
    parser.EndElementHandler = rows.end
    parser.CharacterDataHandler = rows.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    for block in blocks:
        parser.Parse(block)
    parser.Parse(b"", True)
    return rows.extent


def _refuse_doctype(*_: object) -> None:
    """Entities, which only a document type defines, can unpack to more than any memory."""
    raise UserError(
        "the workbook has a document type, which no spreadsheet writes: save its sheet as CSV."
    )
