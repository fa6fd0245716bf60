"""Rows of files that know their columns' types."""

from collections.abc import Iterable, Iterator

import polars as pl

from recmeta.logs.reading.log_format import Wanted
from recmeta.schema import LINE, RAW

TYPED_BATCH_ROWS = 500_000
UUID_BYTES = 16


def numbered(frames: Iterable[pl.DataFrame], wanted: Wanted) -> Iterator[pl.DataFrame]:
    """Yield batches of typed rows as a format's reader does: `line` counts rows, `raw` holds the
    columns as JSON."""
    line = 1
    for frame in frames:
        frame = frame.with_columns(
            pl.col(pl.Categorical, pl.Enum).cast(pl.String),
            pl.col(pl.Binary).map_batches(_as_text, return_dtype=pl.String),
        )
        by_role = {role: pl.col(column) for role, column in wanted.columns.items()}
        yield frame.select(
            pl.Series(LINE, range(line, line + frame.height), dtype=pl.Int64),
            pl.struct(pl.all()).struct.json_encode().alias(RAW),
            **by_role,
        )
        line += frame.height


def _as_text(values: pl.Series) -> pl.Series:
    """Return bytes as the text that they are, for writers that do not say so (Impala, ClickHouse);
    16 bytes that are none are a UUID, and others stand in hexadecimal."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass
    given = values.drop_nulls()
    digits = values.bin.encode("hex")
    if not (given.bin.size() == UUID_BYTES).all():
        return digits
    return digits.str.replace(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", "${1}-${2}-${3}-${4}-${5}")
