"""Rows with the same key: within a source, and between a source and the table.

The key is `schema.INTERACTIONS.key`; null times are equal to each other. Rows that agree in value
too are duplicates; where they do not, the last one wins and the others are superseded.
"""

import dataclasses

import polars as pl

from recmeta.schema import (
    EVENT,
    FILE,
    INTERACTIONS,
    ITEM_ID,
    LINE,
    RAW,
    RULES,
    SOURCE,
    TIMESTAMP,
    USER_ID,
    VALUE,
)

KEY = list(INTERACTIONS.key)
SUPERSEDED = "superseded"
"""The rule that they break; no fault of theirs, hence no part of the bad share."""
NONE_QUARANTINED = pl.DataFrame(
    schema={
        FILE: pl.String,
        LINE: pl.Int64,
        RULES: pl.List(pl.String),
        RAW: pl.String,
        USER_ID: pl.String,
        ITEM_ID: pl.String,
        TIMESTAMP: pl.Datetime("us", "UTC"),
        EVENT: pl.String,
        VALUE: pl.Float64,
    }
)
"""Rows for the quarantine, without one: its columns but `source` and `ingested_at`."""
_RULES = pl.concat_list(pl.lit(SUPERSEDED)).alias(RULES)
_WINNING = "winning_value"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settled:
    """A source's rows with one left per key."""

    rows: pl.DataFrame
    """The winners' key and value, sorted by key: what the table needs, without the text that they
    stood in, which is most of a row's size."""
    superseded: pl.DataFrame
    """The rows that a later one contradicts, in the order of the source."""
    num_duplicates: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """What a source's settled rows do to the table; each frame is sorted by key."""

    new: pl.DataFrame
    """Rows whose key the table does not have."""
    replacing: pl.DataFrame
    """Rows whose key the table has with another value."""
    replaced: pl.DataFrame
    """Those rows of the table."""
    num_duplicates: int


def settle(rows: pl.DataFrame) -> Settled:
    """Leave one row per key: the last in the order of the source."""
    winners = rows.select(*KEY, VALUE).unique(subset=KEY, keep="last")
    if winners.height == rows.height:
        return Settled(rows=winners.sort(KEY), superseded=rows.clear(), num_duplicates=0)
    winning = winners.select(*KEY, pl.col(VALUE).alias(_WINNING))
    compared = rows.join(winning, on=KEY, how="left", nulls_equal=True, maintain_order="left")
    superseded = compared.filter(pl.col(VALUE) != pl.col(_WINNING)).drop(_WINNING)
    return Settled(
        rows=winners.sort(KEY),
        superseded=superseded,
        num_duplicates=rows.height - winners.height - superseded.height,
    )


def compare(rows: pl.DataFrame, table: pl.LazyFrame) -> Changes:
    """Part settled rows by what the table has of their keys.

    Args:
        rows: `Settled.rows`.
        table: the interactions; only their rows of these keys come into memory.
    """
    # What is read of the table is no more than the source's own size.
    met_before = table.join(rows.lazy().select(KEY), on=KEY, how="semi", nulls_equal=True)
    old = met_before.collect(engine="streaming")
    new = rows.join(old, on=KEY, how="anti", nulls_equal=True, maintain_order="left")
    values = old.select(*KEY, pl.col(VALUE).alias(_WINNING))
    met = rows.join(values, on=KEY, how="inner", nulls_equal=True, maintain_order="left")
    replacing = met.filter(pl.col(VALUE) != pl.col(_WINNING)).drop(_WINNING)
    replaced = old.join(replacing.select(KEY), on=KEY, how="semi", nulls_equal=True)
    return Changes(
        new=new,
        replacing=replacing,
        replaced=replaced.sort(KEY),
        num_duplicates=met.height - replacing.height,
    )


def superseded(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a source's superseded rows as rows for the quarantine."""
    return rows.with_columns(_RULES).select(NONE_QUARANTINED.columns)


def replaced(rows: pl.DataFrame) -> pl.DataFrame:
    """Return replaced rows of the table as rows for the quarantine.

    Their `file` is the id of the source that had brought them, their `line` is 0.
    """
    time = pl.col(TIMESTAMP).dt.to_string("iso:strict").alias(TIMESTAMP)
    return rows.with_columns(
        pl.col(SOURCE).alias(FILE),
        pl.lit(0, dtype=pl.Int64).alias(LINE),
        _RULES,
        pl.struct(*KEY, VALUE).struct.with_fields(time).struct.json_encode().alias(RAW),
    ).select(NONE_QUARANTINED.columns)
