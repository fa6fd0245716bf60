"""Sheets of workbooks: those of Excel, and those of OpenDocument.

The first line of a sheet that is filled has the columns' names, unless it is a title above them.
Cells keep their types, so that a date is a time, however it is displayed.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any, cast

import polars as pl

from recmeta.errors import UserError, did_you_mean, listed
from recmeta.extras import require
from recmeta.logs.mapping import Source
from recmeta.logs.reading.log_format import LogFormat, SourceFile, Wanted, positions
from recmeta.logs.reading.separated import TITLES
from recmeta.logs.reading.typed_rows import numbered
from recmeta.logs.workbook_limits import check_workbook

MAX_BYTES = 256 * 1024**2
"""The most bytes of a workbook, all of which is held in memory; a sheet of a million full rows has
fewer."""
UNNAMED = "__UNNAMED__"
"""How the names of columns begin that have none."""
MAX_TITLES = 20
"""The most rows that may stand above a header."""
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_BLOCK = 1024 * 1024


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
    sheets = _parsed(content, file, has_header=has_names)
    name = _chosen(sheets, source, file)
    if has_names and (num_titles := _num_titles(sheets[name])):
        file.passed_over[TITLES] = num_titles
        first = str(next(v for v in sheets[name].row(num_titles - 1) if v is not None))
        # Rows are counted from the top of the sheet, where empty ones have been left out.
        for row in range(num_titles, num_titles + MAX_TITLES):
            titled = _parsed(content, file, sheet=name, header_row=row)
            if first in titled[name].columns:
                sheets = titled
                break
    frame = _filled(sheets[name])
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


def _parsed(
    content: bytes,
    file: SourceFile,
    *,
    has_header: bool = True,
    sheet: str = "",
    header_row: int | None = None,
) -> dict[str, pl.DataFrame]:
    """Return the sheet that is named, or all of them, with their empty rows.

    Raises:
        UserError: if the workbook cannot be read.
    """
    which: dict[str, Any] = {"sheet_name": [sheet]} if sheet else {"sheet_id": 0}
    try:
        with _without_warnings():
            found = pl.read_excel(
                io.BytesIO(content),
                **which,
                engine="calamine",
                read_options=None if header_row is None else {"header_row": header_row},
                has_header=has_header,
                infer_schema_length=None,
                drop_empty_rows=False,
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
    return cast(dict[str, pl.DataFrame], found)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep the readers from warning of every column without a value, and of empty cells."""
    loggers = [logging.getLogger(name) for name in ("fastexcel", "calamine")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _filled(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a sheet without its empty rows."""
    return frame.filter(~pl.all_horizontal(pl.all().is_null())) if frame.width else frame


def _num_titles(frame: pl.DataFrame) -> int:
    """Return the number of rows above a sheet's header; 0 if the first row names its columns."""
    height = _filled(frame).height
    columns = [name for name in frame.columns if frame[name].count() > height / 2]
    unnamed = [name for name in columns if name.startswith(UNNAMED)]
    if len(columns) < 2 or len(unnamed) < len(columns) / 2:
        return 0
    whole = frame.head(MAX_TITLES).select(pl.all_horizontal(pl.col(columns).is_not_null()))
    place = whole.to_series().arg_max()
    return 0 if place is None or not whole.to_series().any() else place + 1


def _chosen(sheets: dict[str, pl.DataFrame], source: Source, file: SourceFile) -> str:
    """Return the name of the sheet to read."""
    if source.sheet:
        if source.sheet not in sheets:
            raise UserError(
                f"{file.name!r} has no sheet {source.sheet!r}."
                f"{did_you_mean(source.sheet, list(sheets))} It has: {listed(list(sheets))}."
            )
        return source.sheet
    filled = [name for name, frame in sheets.items() if _filled(frame).height]
    if len(filled) > 1:
        raise UserError(
            f"{file.name!r} has several sheets with rows: name one with --sheet. It has: "
            f"{listed(filled)}."
        )
    found = next(iter(filled or sheets), None)
    if found is None or not sheets[found].width:
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
                f"{file.name!r} is not a workbook, despite its name: if it is text, use --format "
                "csv or --format tsv."
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
        check_workbook(content, file.name)
    return content


FORMAT = LogFormat(
    read=_read,
    column_names=_column_names,
    endings=(".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
)
