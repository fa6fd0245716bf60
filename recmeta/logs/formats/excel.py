"""Sheets of Excel workbooks.

The first line of a sheet that is filled has the columns' names. Cells keep their types, so that a
date is a time, however it is displayed.
"""

import io
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator

import polars as pl

from recmeta.errors import UserError, did_you_mean, listed
from recmeta.extras import require
from recmeta.logs.limits import check_unpacked
from recmeta.logs.mapping import Source
from recmeta.logs.reading.log_format import LogFormat, SourceFile, Wanted, positions
from recmeta.logs.reading.typed_rows import numbered

MAX_BYTES = 256 * 1024**2
"""The most bytes of a workbook, all of which is held in memory; a sheet of a million full rows has
fewer."""
MAX_CELLS = 100_000_000
"""The most cells of the rectangle that a sheet spans, including empty ones: reading allocates all
of them."""
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_BLOCK = 1024 * 1024
_CELL = re.compile(rb'<c r="([A-Z]{1,3})(\d{1,7})"')
_LONGEST_CELL = 32


def _read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    frame = _sheet(source, file)
    positions(frame.columns, wanted, file.name)
    columns = list(dict.fromkeys(wanted.columns.values()))
    return numbered([frame.select(columns)], wanted)


def _column_names(source: Source, file: SourceFile) -> list[str]:
    return _sheet(source, file).columns


def _sheet(source: Source, file: SourceFile) -> pl.DataFrame:
    """Return the rows of the sheet that a source names, or of the only one that has any.

    Raises:
        UserError: if the file is not a workbook, is too large, or has several such sheets.
    """
    require("fastexcel")
    content = _content(file)
    has_names = source.header and not source.column_names
    logger = logging.getLogger("fastexcel")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of every column without a value
    try:
        sheets = pl.read_excel(
            io.BytesIO(content),
            sheet_id=0,
            engine="calamine",
            has_header=has_names,
            infer_schema_length=None,
            drop_empty_cols=False,
            raise_if_empty=False,
        )
    except Exception as error:  # fastexcel's own, which only an installation with it can name
        if isinstance(error, MemoryError):
            raise
        raise UserError(
            f"cannot read the workbook {file.name!r}: {' '.join(str(error).split())[:200]}. If it "
            "opens in a spreadsheet, save its sheet as CSV."
        ) from error
    finally:
        logger.setLevel(level)
    frame = _chosen(sheets, source, file)
    if not source.column_names:
        return frame
    names = list(source.column_names)
    if len(names) != frame.width:
        raise UserError(
            f"{file.name!r} has {frame.width} columns, and --column-names names {len(names)}."
        )
    frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
    repeats = pl.all_horizontal(pl.col(name).cast(pl.String) == name for name in names)
    return frame.filter(~repeats.fill_null(False))


def _chosen(sheets: dict[str, pl.DataFrame], source: Source, file: SourceFile) -> pl.DataFrame:
    if source.sheet:
        if source.sheet not in sheets:
            raise UserError(
                f"{file.name!r} has no sheet {source.sheet!r}."
                f"{did_you_mean(source.sheet, list(sheets))} It has: {listed(list(sheets))}."
            )
        return sheets[source.sheet]
    filled = {name: frame for name, frame in sheets.items() if frame.height}
    if len(filled) > 1:
        raise UserError(
            f"{file.name!r} has several sheets with rows: name one with --sheet. It has: "
            f"{listed(list(filled))}."
        )
    found = next(iter((filled or sheets).values()), None)
    if found is None or not found.width:
        raise UserError(f"{file.name!r} has no rows in any of its sheets.")
    return found


def _content(file: SourceFile) -> bytes:
    """Return a workbook's bytes after checking that memory can hold it."""
    parts: list[bytes] = []
    size = 0
    with file.open() as stream:
        head = stream.peek(max(map(len, WORKBOOKS)))
        if not head.startswith(WORKBOOKS):
            raise UserError(
                f"{file.name!r} is no workbook, whatever its name says: it may be text, which "
                "--format csv or --format tsv reads."
            )
        while block := stream.read(_BLOCK):
            parts.append(block)
            size += len(block)
            if size > MAX_BYTES:
                raise UserError(
                    f"the workbook {file.name!r} has more than {MAX_BYTES // 1024**2} MiB: save "
                    "its sheet as CSV, which is read piece by piece."
                )
    content = b"".join(parts)
    if head.startswith(WORKBOOKS[0]):
        _check_size(content, file)
    return content


def _check_size(content: bytes, file: SourceFile) -> None:
    """Raise UserError if a workbook unpacks to, or spans, more than memory can hold."""
    unpacked = 0
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                raise UserError(
                    f"{file.name!r} is no Excel workbook of XML: save its sheet as .xlsx or CSV."
                )
            for entry in archive.infolist():
                entry.file_size = 2**62  # all of it is counted, whatever it says of itself
                rows = columns = 0
                rest = b""
                with archive.open(entry) as stream:
                    while block := stream.read(_BLOCK):
                        unpacked += len(block)
                        check_unpacked(file.name, len(content), unpacked)
                        if "worksheets/" not in entry.filename:
                            continue
                        for letters, row in _CELL.findall(rest + block):
                            rows = max(rows, int(row))
                            columns = max(columns, _number(letters))
                        rest = block[-_LONGEST_CELL:]
                if rows * columns > MAX_CELLS:
                    raise UserError(
                        f"a sheet of {file.name!r} has cells as far as row {rows:,} and column "
                        f"{columns:,}: delete what stands apart from the table, or save it as CSV."
                    )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"cannot read the workbook {file.name!r}: {error}. It may be cut short or locked by a "
            "password."
        ) from error


def _number(letters: bytes) -> int:
    """Return the number of a column: 1 for A, 27 for AA."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number


FORMAT = LogFormat(
    read=_read,
    column_names=_column_names,
    endings=(".xlsx", ".xlsm", ".xls"),
)
