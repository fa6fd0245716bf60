"""Rows of files that have column types."""

from collections.abc import Iterable, Iterator
from typing import cast

import polars as pl

from recmeta.logs.reading.log_format import Wanted
from recmeta.schema import LINE, RAW

TYPED_BATCH_ROWS = 500_000
UUID_BYTES = 16


def numbered(frames: Iterable[pl.DataFrame], wanted: Wanted) -> Iterator[pl.DataFrame]:
    """Yield batches of typed rows as a format's reader does: `line` counts rows, `raw` holds the
    columns as JSON, or as a structure if that is wanted."""
    line, raw = 1, pl.struct(pl.all())
    for frame in frames:
        frame = frame.with_columns(
            pl.col(pl.Categorical, pl.Enum).cast(pl.String),
            pl.col(pl.Binary).map_batches(_as_text, return_dtype=pl.String),
        )
        by_role = {role: column_of(frame.schema, c) for role, c in wanted.columns.items()}
        yield frame.select(
            pl.int_range(line, line + frame.height, dtype=pl.Int64, eager=True).alias(LINE),
            raw.struct.json_encode().alias(RAW) if wanted.raw_as_text else raw.alias(RAW),
            **by_role,
        )
        line += frame.height


def column_of(schema: pl.Schema, column: str) -> pl.Expr:
    """Return a column, or a part of a structure: `user.id` is the `id` in the column `user`, and
    `items.id` the list of those in the list `items`."""
    if column in schema:
        return pl.col(column)
    name, *parts = column.split(".")
    return _part(pl.col(name), schema[name], parts)


def top_level(schema: pl.Schema, wanted: Wanted) -> list[str]:
    """Return the columns to read for those that are wanted, each once."""
    columns = wanted.columns.values()
    return list(dict.fromkeys(c if c in schema else c.split(".")[0] for c in columns))


def _part(value: pl.Expr, dtype: pl.DataType, parts: list[str]) -> pl.Expr:
    if not parts:
        return value
    if isinstance(dtype, pl.List):
        return value.list.eval(_part(pl.element(), cast(pl.DataType, dtype.inner), parts))
    assert isinstance(dtype, pl.Struct)
    inner = next(field.dtype for field in dtype.fields if field.name == parts[0])
    return _part(value.struct.field(parts[0]), cast(pl.DataType, inner), parts[1:])


def paths_of(schema: pl.Schema) -> list[str]:
    """Return the names of columns, then of the parts of structures as paths."""
    found = list(schema)
    waiting = list(schema.items())
    for path, dtype in waiting:  # grows as it is read
        inner = cast(pl.DataType, dtype.inner) if isinstance(dtype, pl.List) else dtype
        if isinstance(inner, pl.Struct):
            parts = [(f"{path}.{f.name}", cast(pl.DataType, f.dtype)) for f in inner.fields]
            found += [name for name, _ in parts]
            waiting += parts
    return found


def _as_text(values: pl.Series) -> pl.Series:
    """Return bytes as the text that they are, for writers that do not say so (Impala, ClickHouse);
    16 bytes that are not text are a UUID, and others are written in hexadecimal."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass
    given = values.drop_nulls()
    digits = values.bin.encode("hex")
    if not (given.bin.size() == UUID_BYTES).all():
        return digits
    return digits.str.replace(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", "${1}-${2}-${3}-${4}-${5}")
