"""Cells that hold several items, and tables with a column for each item, become a row for each
item."""

from collections.abc import Iterator

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.log_format import FAULTS, Wanted
from recmeta.schema import FILE, LINE, RAW

USER, ITEM, VALUE = "user", "item", "value"
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_CELL = "cell:"
_PRINTED = {
    r"^\[\s*(?:'[^']*'\s*,?\s*)*\]$": r"'[^']*'",
    r"^\[\s*(?:-?\d+(?:\s+-?\d+)*)?\s*\]$": r"-?\d+",
}
"""How Python and numpy print lists of texts and of numbers, and each element of such a list."""
_TEXT = r"(?:'[^'\\]*'|\"[^\"\\]*\")"
"""How Python prints a text: one with an apostrophe is between double quotes."""
_TEXTS = rf"^\[\s*(?:{_TEXT}\s*,?\s*)*\]$"


def one_item_a_row(batch: pl.DataFrame, mapping: LogMapping, wanted: Wanted) -> pl.DataFrame:
    """Return a batch with one item in each row.

    Lists, of whatever format, are split by themselves, texts by `item_separator`; other columns
    that are also lists are split along with the items.

    Args:
        batch: with the roles of `wanted`.

    Raises:
        UserError: if ids are structures, of which a part must be named, or users are lists.
    """
    for role in (USER, ITEM):
        _refuse_structures(batch[role], wanted.columns[role])
    _refuse_users(batch[USER], wanted.columns[USER])
    listed = _lists(batch[ITEM], mapping.item_separator)
    if listed is not None:
        roles = [role for role in wanted.columns if role not in (USER, ITEM)]
        along = {role: _lists(batch[role], "") for role in roles}
        lists = [found.alias(role) for role, found in along.items() if found is not None]
        batch = batch.with_columns(listed.alias(ITEM), *lists)
        batch = batch.explode(ITEM, *(found.name for found in lists))
    if mapping.item_suffix:
        item, sign = pl.col(ITEM).cast(pl.String), _escaped(mapping.item_suffix)
        batch = batch.with_columns(
            item.str.replace(rf"{sign}{_NUMBER}$", "").alias(ITEM),
            item.str.extract(rf"{sign}({_NUMBER})$", 1).alias(VALUE),
        )
    return batch


def cells_wanted(mapping: LogMapping, names: list[str]) -> Wanted:
    """Return the columns to read of a table with a column for each item.

    Args:
        names: those of the file.
    """
    beside = {mapping.user_col, *mapping.skip_columns, ""}
    cells = {f"{_CELL}{name}": name for name in names if name not in beside}
    user = {USER: mapping.user_col} if mapping.user_col else {}
    return Wanted(columns=user | cells)


def one_cell_a_row(batches: Iterator[pl.DataFrame], mapping: LogMapping) -> Iterator[pl.DataFrame]:
    """Yield the cells of such a table as rows of `user`, `item` and `value`, without those that are
    empty or hold a word for null.

    A broken line is one row. Without a column of users, a line's number is its user.
    """
    for batch in batches:
        cells = [name for name in batch.columns if name.startswith(_CELL)]
        if USER not in batch.columns:
            batch = batch.with_columns(pl.col(LINE).cast(pl.String).alias(USER))
        texts = batch.with_columns(pl.col(cells).cast(pl.String).str.strip_chars())
        kept = [FILE, LINE, RAW, *FAULTS, USER]
        rows = texts.unpivot(cells, index=kept, variable_name=ITEM, value_name=VALUE)
        broken = pl.any_horizontal(FAULTS)
        first = pl.col(ITEM) == (cells[0] if cells else "")
        value = pl.col(VALUE)
        given = value.is_not_null() & (value != "") & ~value.is_in(list(mapping.nulls))
        rows = rows.filter((broken & first) | (~broken & given)).sort(LINE, maintain_order=True)
        item = pl.col(ITEM).str.slice(len(_CELL))
        said = pl.when(broken).then(RAW).otherwise(pl.format("{}: {}", item, value))
        yield rows.with_columns(item.alias(ITEM), said.alias(RAW)).select(
            FILE, LINE, RAW, *FAULTS, USER, ITEM, VALUE
        )


def _lists(values: pl.Series, separator: str) -> pl.Series | None:
    """Return the lists that a column's cells hold; None if they hold none."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return values.cast(pl.List(values.dtype.inner))
    if values.dtype != pl.String:
        return None
    if separator:
        parts = values.str.split(separator).list.eval(pl.element().str.strip_chars())
        return parts.list.eval(pl.element().filter(pl.element() != ""))
    given = values.drop_nulls()
    if not len(given) or not given.head(1).str.starts_with("[").all():
        return None
    if not (given.str.starts_with("[") & given.str.ends_with("]")).all():
        return None
    for pattern, part in _PRINTED.items():
        if given.str.contains(pattern).all():
            return values.str.extract_all(part).list.eval(pl.element().str.strip_chars("'"))
    try:
        return values.str.json_decode(pl.List(pl.String))
    except pl.exceptions.PolarsError:
        if not given.str.contains(_TEXTS).all():
            return None  # texts in brackets
        inside = pl.element().str.slice(1, pl.element().str.len_chars() - 2)
        return values.str.extract_all(_TEXT).list.eval(inside)


def _refuse_structures(values: pl.Series, column: str) -> None:
    dtype = values.dtype
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    holds = inner.is_nested()
    if dtype == pl.String:
        given = values.drop_nulls()
        holds = bool(len(given)) and bool(
            given.head(1).str.contains(r'^\[?\s*\{\s*"').all()
            and given.str.contains(r'^\[?\s*\{\s*"').all()
        )
    if holds and not isinstance(inner, pl.Struct) and dtype != pl.String:
        raise UserError(
            f"the column {column!r} holds {inner}, and an id is one value: write the ids that are "
            "in it as a column of their own, or as a list."
        )
    if holds:
        raise UserError(
            f"the column {column!r} holds structures, and an id is one value: name the part that "
            f"it is, such as {column}.id."
        )


def _refuse_users(values: pl.Series, column: str) -> None:
    """Refuse lists of several users, as where a JSON document has its records below a key."""
    listed = _lists(values, "")
    if listed is not None and (listed.list.len() > 1).any():
        raise UserError(
            f"the column {column!r} holds lists, and a row is of one user: write one record per "
            "line, for example with jq -c '.records[]', or give another column as that of the "
            "users (--user-col)."
        )


def _escaped(text: str) -> str:
    return "".join(letter if letter.isalnum() else f"\\{letter}" for letter in text)
