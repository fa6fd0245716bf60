"""Any log file, folder, Delta table or URL, read into batches of rows.

Every batch has the columns asked for, renamed to their roles, and says of each row where it stood
(`file`, `line`), how it read there (`raw`) and whether its form was broken (`wrong_encoding`,
`ragged_line`, `unparsable_json`). A broken row never hides or shifts another one. Blank lines and
header lines are not rows.

From text files all columns are strings; JSON values become their text, and null and absent are the
same. Parquet and Delta keep their types; there `line` counts rows and `raw` holds the mapped
columns as JSON.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recmeta.errors import UserError, did_you_mean
from recmeta.logs.files import SourceFile
from recmeta.logs.lines import TEXT, WRONG_ENCODING, read_lines
from recmeta.logs.mapping import Format, Source
from recmeta.logs.records import RAGGED, Dialect, header_fields, join_lines, split_fields
from recmeta.schema import FILE, LINE, RAW
from recmeta.workspace import check_delta_path

UNPARSABLE_JSON = "unparsable_json"
FAULTS = (WRONG_ENCODING, RAGGED, UNPARSABLE_JSON)
TYPED_BATCH_ROWS = 500_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """The columns to read from a source."""

    columns: Mapping[str, str]
    """Role to column name."""
    may_break_lines: frozenset[str] = frozenset()
    """The roles whose quoted fields may hold line breaks; ids, times and values never do."""


def read(source: Source, files: list[SourceFile], wanted: Wanted) -> Iterator[pl.DataFrame]:
    """Yield the rows of all files in order, in batches.

    Args:
        files: what `files.find_files(source)` gives.

    Raises:
        UserError: where a file lacks a wanted column or is not of the source's format at all.
    """
    for file in files:
        try:
            yield from _read_file(source, file, wanted)
        except (pa.ArrowException, OSError, EOFError) as error:
            raise UserError(
                f"cannot read {file.name!r} as {source.resolved_format}: {error}"
            ) from error


def _read_file(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    format_ = file.format
    if format_ in ("csv", "tsv"):
        batches = _read_separated(source, file, wanted, format_)
    elif format_ == "jsonl":
        batches = _read_json_lines(source, file, wanted)
    else:
        batches = _read_typed(file, wanted)
    for batch in batches:
        absent = [pl.lit(False).alias(fault) for fault in FAULTS if fault not in batch.columns]
        yield batch.with_columns(pl.lit(file.name).alias(FILE), *absent).select(
            FILE, LINE, RAW, *FAULTS, *wanted.columns
        )


def _read_separated(
    source: Source, file: SourceFile, wanted: Wanted, format_: Format
) -> Iterator[pl.DataFrame]:
    separator = source.separator or ("\t" if format_ == "tsv" else ",")
    dialect = Dialect(separator=separator, quote=source.quote, escape=source.escape, width=0)
    names = list(source.column_names)
    columns: dict[str, int] = {}
    rest: pl.DataFrame | None = None
    with file.open() as stream:
        for block, last in read_lines(stream, source.encoding):
            lines = block if rest is None else pl.concat([rest, block])
            if not columns:
                if not names:
                    header = lines.filter(pl.col(TEXT).str.strip_chars(" ") != "").head(1)
                    if not header.height:
                        rest = lines
                        continue
                    names = header_fields(header[TEXT].item(), dialect)
                    lines = lines.filter(pl.col(LINE) > header[LINE].item())
                hint = (
                    f" There is but one column: is {separator!r} the separator?"
                    if len(names) == 1
                    else ""
                )
                columns = _positions(names, wanted, file, hint)
                dialect = dataclasses.replace(
                    dialect,
                    width=len(names),
                    single_line=frozenset(
                        index
                        for role, index in columns.items()
                        if role not in wanted.may_break_lines
                    ),
                )
            records, rest = join_lines(lines, dialect, last)
            yield split_fields(records, dialect, columns).rename({TEXT: RAW})
    if not columns:
        raise UserError(f"{file.name!r} is empty: it has not even a header line.")


def _read_json_lines(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    text = pl.col(TEXT)
    fields = [
        text.str.json_path_match(f"$[{json.dumps(column)}]").alias(role)
        for role, column in wanted.columns.items()
    ]
    is_object = text.str.strip_chars().str.starts_with("{")
    parses = text.str.json_path_match("$").is_not_null()
    unseen = set(wanted.columns)
    with file.open() as stream:
        for lines, _ in read_lines(stream, source.encoding):
            rows = lines.filter(text.str.strip_chars() != "")
            batch = rows.with_columns((~(is_object & parses)).alias(UNPARSABLE_JSON), *fields)
            if len(unseen) == len(wanted.columns) and batch.height:
                unseen = {role for role in unseen if batch[role].null_count() == batch.height}
                if unseen and not batch[UNPARSABLE_JSON].all():
                    _check_keys(batch, wanted, file)
            yield batch.rename({TEXT: RAW})


def _check_keys(batch: pl.DataFrame, wanted: Wanted, file: SourceFile) -> None:
    """Refuse a mapping that names keys which no object has; a key that is always null is one."""
    sample = batch.filter(~pl.col(UNPARSABLE_JSON))[TEXT].head(1000).to_list()
    keys = list(dict.fromkeys(key for text in sample for key in json.loads(text)))
    absent = {
        role: column
        for role, column in wanted.columns.items()
        if column not in keys and batch[role].null_count() == batch.height
    }
    if absent:
        _positions(keys, Wanted(columns=absent), file)


def _read_typed(file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    line = 1
    for frame in _typed_batches(file, wanted):
        frame = frame.with_columns(
            pl.col(pl.Categorical, pl.Enum).cast(pl.String),
            pl.col(pl.Binary).bin.encode("hex"),
        )
        by_role = {role: pl.col(column) for role, column in wanted.columns.items()}
        yield frame.select(
            pl.Series(LINE, range(line, line + frame.height), dtype=pl.Int64),
            pl.struct(pl.all()).struct.json_encode().alias(RAW),
            **by_role,
        )
        line += frame.height


def _typed_batches(file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
    columns = list(dict.fromkeys(wanted.columns.values()))
    if file.format == "delta":
        if "://" not in file.path:
            check_delta_path(file.path, "the log")
        table = pl.scan_delta(file.path, version=file.version)
        _positions(table.collect_schema().names(), wanted, file)
        rows = table.select(columns)
        yield rows.clear().collect()  # a table without rows has columns, too
        yield from rows.collect_batches(
            chunk_size=TYPED_BATCH_ROWS, maintain_order=True, engine="streaming"
        )
        return
    with file.filesystem.open_input_file(file.path) as handle:
        parquet = pq.ParquetFile(handle)
        _positions(parquet.schema_arrow.names, wanted, file)
        if not parquet.metadata.num_rows:
            yield pl.DataFrame(parquet.schema_arrow.empty_table()).select(columns)
        for batch in parquet.iter_batches(TYPED_BATCH_ROWS, columns=columns):
            yield pl.DataFrame(pl.from_arrow(batch)).select(columns)


def _positions(
    names: list[str], wanted: Wanted, file: SourceFile, hint: str = ""
) -> dict[str, int]:
    """Return the index of each role's column. Raises UserError where there is none, or two."""
    for column in wanted.columns.values():
        if names.count(column) > 1:
            raise UserError(f"{file.name!r} has {names.count(column)} columns named {column!r}.")
        if column not in names:
            raise UserError(
                f"{file.name!r} has no column {column!r}.{did_you_mean(column, names)} "
                f"It has: {', '.join(names)}.{hint}"
            )
    return {role: names.index(column) for role, column in wanted.columns.items()}
