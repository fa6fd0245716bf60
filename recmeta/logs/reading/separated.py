"""Text files with a separator between fields: CSV, TSV and their kin."""

import dataclasses
from collections.abc import Iterator

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.mapping import Source
from recmeta.logs.reading.lines import TEXT, read_lines
from recmeta.logs.reading.log_format import LogFormat, SourceFile, Wanted, positions
from recmeta.logs.reading.records import Dialect, header_fields, join_lines, split_fields
from recmeta.schema import LINE, RAW


def separated(default: str, *, endings: tuple[str, ...]) -> LogFormat:
    """Return the format of text files whose fields are separated.

    Args:
        default: the separator where a source names none.
    """

    def read(source: Source, file: SourceFile, wanted: Wanted) -> Iterator[pl.DataFrame]:
        return _read(source, file, wanted, source.separator or default)

    def column_names(source: Source, file: SourceFile) -> list[str]:
        return list(source.column_names) or _header(source, file, source.separator or default)

    return LogFormat(read=read, column_names=column_names, endings=endings)


def _read(
    source: Source, file: SourceFile, wanted: Wanted, separator: str
) -> Iterator[pl.DataFrame]:
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
                columns = positions(names, wanted, file.name, hint)
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


def _header(source: Source, file: SourceFile, separator: str) -> list[str]:
    dialect = Dialect(separator=separator, quote=source.quote, escape=source.escape, width=0)
    with file.open() as stream:
        for lines, _ in read_lines(stream, source.encoding):
            header = lines.filter(pl.col(TEXT).str.strip_chars(" ") != "").head(1)
            if header.height:
                return header_fields(header[TEXT].item(), dialect)
    raise UserError(f"{file.name!r} is empty: it has not even a header line.")
