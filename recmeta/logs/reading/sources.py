"""Any log file, folder, Delta table or URL, read into batches of rows.

Every batch has the columns asked for, renamed to their roles, and says for each row where it was
(`file`, `line`), its text there (`raw`) and whether its form was broken (`wrong_encoding`,
`ragged_line`, `unparsable_json`, `repeated_key`). A broken row never hides or shifts another one.
Blank lines and header lines are not rows.

From text files all columns are strings; JSON values become their text, and null and absent are the
same. Parquet and Delta keep their types; there `line` counts rows and `raw` holds the mapped
columns as JSON.
"""

import dataclasses
import lzma
import zipfile
import zlib
from collections.abc import Iterator

import polars as pl
import pyarrow as pa

from recmeta.errors import UserError
from recmeta.logs.formats import FORMATS
from recmeta.logs.mapping import LogMapping, Source
from recmeta.logs.reading.cells import cells_wanted, one_cell_a_row, one_item_a_row
from recmeta.logs.reading.log_format import FAULTS, LogFormat, SourceFile, Wanted, positions
from recmeta.logs.reading.typed_rows import TYPED_BATCH_ROWS, numbered, paths_of, top_level
from recmeta.schema import FILE, LINE, RAW


def read(source: Source, files: list[SourceFile], wanted: Wanted) -> Iterator[pl.DataFrame]:
    """Yield the rows of all files in order, in batches.

    Args:
        files: what `files.find_files(source)` gives.

    Raises:
        UserError: if a file lacks a wanted column or is not of the source's format at all.
    """
    header: tuple[str, ...] = ()
    for place, file in enumerate(files):
        try:
            if header:
                file = dataclasses.replace(file, header=header)
            elif place == 0 and len(files) > 1 and FORMATS[file.format].has_header:
                header = tuple(FORMATS[file.format].column_names(source, file))
            yield from _rows_of(source, file, wanted)
        except (
            pa.ArrowException, pl.exceptions.PolarsError, OSError, EOFError, zipfile.BadZipFile,
            zlib.error, lzma.LZMAError, NotImplementedError,
        ) as error:  # fmt: skip
            raise UserError(f"cannot read {file.name!r} as {file.format}: {error}") from error


def read_frame(frame: pl.DataFrame, name: str, wanted: Wanted) -> Iterator[pl.DataFrame]:
    """Yield the rows of a frame in memory as `read` does those of a Parquet file.

    Args:
        name: used in place of the file's name.

    Raises:
        UserError: if it lacks a wanted column.
    """
    positions(paths_of(frame.schema), wanted, name)
    rows = frame.select(top_level(frame.schema, wanted))
    slices = rows.iter_slices(TYPED_BATCH_ROWS) if rows.height else [rows]
    for batch in numbered(slices, wanted):
        yield _in_order(batch, name, wanted)


def _rows_of(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    if not isinstance(source, LogMapping):
        yield from _read_file(source, file, wanted)
    elif source.layout == "matrix":
        names = FORMATS[file.format].column_names(source, file)
        cells = cells_wanted(source, names)
        yield from one_cell_a_row(_read_file(source, file, cells), source)
    else:
        for batch in _read_file(source, file, wanted):
            yield one_item_a_row(batch, source, wanted) if "item" in wanted.columns else batch


def _read_file(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    how: LogFormat = FORMATS[file.format]
    said = {role: c for role, c in wanted.columns.items() if c in file.partitions}
    own = {role: column for role, column in wanted.columns.items() if role not in said}
    of_file = dataclasses.replace(wanted, columns=own)
    folders = [
        pl.lit(file.partitions[column], dtype=pl.String).alias(role)
        for role, column in said.items()
    ]
    for batch in how.read(source, file, of_file):
        yield _in_order(batch.with_columns(*folders), file.name, wanted)


def _in_order(batch: pl.DataFrame, name: str, wanted: Wanted) -> pl.DataFrame:
    """Return a batch with the columns that `read` promises."""
    absent = [pl.lit(False).alias(fault) for fault in FAULTS if fault not in batch.columns]
    return batch.with_columns(pl.lit(name).alias(FILE), *absent).select(
        FILE, LINE, RAW, *FAULTS, *wanted.columns
    )
