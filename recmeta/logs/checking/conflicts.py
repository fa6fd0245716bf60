"""Rows with the same key: within a source, and between a source and the table.

The key is `schema.INTERACTIONS.key`; null times are equal to each other. Rows that also agree in
value are duplicates; otherwise the last one is kept and the others are superseded.
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
"""The rule that superseded rows break. It is not a fault, and hence not part of the bad share."""
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
"""An empty frame with the quarantine's columns except `source` and `ingested_at`."""
_RULES = pl.concat_list(pl.lit(SUPERSEDED)).alias(RULES)
TEXTS = [USER_ID, ITEM_ID, EVENT]
"""Columns of the key that are texts."""
_WINNING, _IDS = "winning_value", "ids"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settled:
    """A source's rows with one row kept for each key."""

    encoded: pl.DataFrame
    """The kept rows' key and value, sorted by key: what the table needs, without the rows' text,
    which is most of their size. Ids and kinds of events are of type Enum, and each of their
    categories occurs."""
    superseded: pl.DataFrame
    """The rows that a later one contradicts, in the order of the source."""
    num_duplicates: int

    @property
    def rows(self) -> pl.DataFrame:
        """The kept rows, with their ids as strings."""
        return self.encoded.with_columns(pl.col(TEXTS).cast(pl.String))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """The changes that a source's rows make to the table; each frame is sorted by key."""

    accepted: pl.DataFrame
    """Rows whose key the table does not have, or has with another value."""
    replaced: pl.DataFrame
    """The table's rows that have that other value."""
    num_duplicates: int


def settle(rows: pl.DataFrame) -> Settled:
    """Keep one row per key: the last in the order of the source."""
    encoded = rows.select(
        *(_encoded(rows[name]) if name in TEXTS else name for name in [*KEY, VALUE])
    )
    # Ids are compared once each, and not for every row: their places in the order of all ids are
    # numbers, of which a user's and an item's make one.
    user, item = (encoded[name].to_physical().cast(pl.UInt64) for name in (USER_ID, ITEM_ID))
    keys = pl.DataFrame({_IDS: user * 2**32 + item, TIMESTAMP: rows[TIMESTAMP].to_physical()})
    if len(categories(encoded[EVENT])) > 1:
        keys = keys.with_columns(encoded[EVENT].to_physical())
    order = keys.select(pl.arg_sort_by(keys.columns, maintain_order=True)).to_series()
    differs = pl.any_horizontal(pl.all().ne_missing(pl.all().shift(-1)))
    # The last row has none after it, which a comparison with a null time would not show.
    is_end = pl.int_range(pl.len()) == pl.len() - 1
    last = keys[order].select(differs | is_end).to_series()
    if last.all():
        return Settled(encoded=encoded[order], superseded=rows.clear(), num_duplicates=0)
    values = encoded.select(VALUE)[order].with_columns(last.alias(_WINNING))
    winning = pl.when(_WINNING).then(VALUE).backward_fill()
    lost = order.filter(values.select(pl.col(VALUE) != winning).to_series())
    winners = encoded[order.filter(last)]
    return Settled(
        encoded=winners,
        superseded=rows[lost.sort()],
        num_duplicates=rows.height - winners.height - len(lost),
    )


def _encoded(texts: pl.Series) -> pl.Series:
    """Return texts as numbers that are in the order of the texts."""
    return texts.cast(pl.Enum(texts.unique().sort()))


def categories(texts: pl.Series) -> pl.Series:
    """Return the texts that a column of type Enum may hold, in their order."""
    assert isinstance(texts.dtype, pl.Enum)
    return texts.dtype.categories


def compare(rows: pl.DataFrame, old: pl.DataFrame) -> Changes:
    """Divide a source's rows by what the table has for their keys.

    Args:
        rows: `Settled.rows`.
        old: rows of the table, including all that have these keys, with their key, value and any
            other columns.
    """
    if not old.height:
        return Changes(accepted=rows, replaced=old, num_duplicates=0)
    values = old.select(*KEY, pl.col(VALUE).alias(_WINNING))
    met = rows.join(values, on=KEY, how="left", nulls_equal=True, maintain_order="left")
    accepted = met.filter(pl.col(_WINNING).is_null() | (pl.col(VALUE) != pl.col(_WINNING)))
    replacing = accepted.filter(pl.col(_WINNING).is_not_null()).select(KEY)
    replaced = old.join(replacing, on=KEY, how="semi", nulls_equal=True)
    return Changes(
        accepted=accepted.drop(_WINNING),
        replaced=replaced.sort(KEY),
        num_duplicates=rows.height - accepted.height,
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
