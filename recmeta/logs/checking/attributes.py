"""The attributes of users and items, as an `AttributeSource` describes them.

A row without a readable id goes to the quarantine. A value that cannot be parsed is null: an age of
"n/a" does not cost the user.
"""

from collections.abc import Collection, Iterator
from typing import cast

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.checking import parsing
from recmeta.logs.checking.conflicts import NONE_QUARANTINED
from recmeta.logs.mapping import Attribute, AttributeSource, parse_scale
from recmeta.logs.reading.log_format import FAULTS, SourceFile, Wanted
from recmeta.logs.reading.sources import read, read_frame
from recmeta.schema import FILE, LINE, RAW, RULES, VALID_FROM

_ID, _VALID_FROM = "id", "valid_from"


def read_attributes(
    source: AttributeSource, files: list[SourceFile], id_name: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the users or the items.

    Args:
        id_name: `user_id` or `item_id`.

    Returns:
        The entities, one row per id and `valid_from` (the last one where there are several), and
        the unreadable rows as rows for the quarantine.

    Raises:
        UserError: if a column is missing or a pattern is not a regular expression.
    """
    return _whole(read_blocks(source, files, id_name), id_name)


def attributes_in_frame(
    source: AttributeSource, frame: pl.DataFrame, name: str, id_name: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return for a frame in memory what `read_attributes` returns for files.

    Args:
        name: used in place of the file's name.

    Raises:
        UserError: as `read_attributes`.
    """
    return _whole(_parsed(source, read_frame(frame, name, _wanted(source)), id_name), id_name)


def _whole(
    blocks: Iterator[tuple[pl.DataFrame, pl.DataFrame]], id_name: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    good, bad = zip(*blocks, strict=True)
    return each_once(pl.concat(good), id_name), pl.concat(bad)


def each_once(rows: pl.DataFrame, id_name: str) -> pl.DataFrame:
    """Return one row per id and `valid_from`, the last one that was read, in their order."""
    entities = rows.unique([id_name, VALID_FROM], keep="last", maintain_order=True)
    return entities.sort(id_name, VALID_FROM)


def read_blocks(
    source: AttributeSource, files: list[SourceFile], id_name: str
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield what `read_attributes` reads block by block, at least one: entities, perhaps several
    times, and unreadable rows."""
    return _parsed(source, read(source, files, _wanted(source)), id_name)


def _parsed(
    source: AttributeSource, batches: Iterator[pl.DataFrame], id_name: str
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    words = source.nulls
    for batch in batches:
        missing = parsing.identifier(_ID, batch.schema[_ID], words).is_null()
        whole = ~pl.any_horizontal("ragged_line", "unparsable_json", "repeated_key")
        rules = [pl.when(fault).then(pl.lit(fault)) for fault in FAULTS]
        rules.append(pl.when(missing & whole).then(pl.lit(f"missing_{id_name}")))
        checked = batch.with_columns(pl.concat_list(rules).list.drop_nulls().alias(RULES))
        broken = pl.col(RULES).list.len() > 0
        read_id = parsing.identifier(_ID, batch.schema[_ID], words).alias(id_name)
        bad = checked.filter(broken).select(FILE, LINE, RULES, RAW, read_id)
        bad = pl.concat([NONE_QUARANTINED, bad], how="diagonal")
        try:
            good = checked.filter(~broken).select(*_columns(source, batch.schema, id_name))
        except pl.exceptions.ComputeError as error:
            raise UserError(f"cannot read the attributes in {source.path!r}: {error}") from error
        yield good, bad


def _wanted(source: AttributeSource) -> Wanted:
    columns = {_ID: source.id_col}
    if source.valid_from_col is not None:
        columns[_VALID_FROM] = source.valid_from_col
    single_line = set(columns)
    for name, attribute in source.columns.items():
        if attribute.flags:
            columns |= {_flag(name, value): column for value, column in attribute.flags.items()}
        else:
            columns[_role(name)] = attribute.column or name
    return Wanted(columns=columns, may_break_lines=frozenset(columns) - single_line)


def _columns(source: AttributeSource, types: pl.Schema, id_name: str) -> list[pl.Expr]:
    valid_from = pl.lit(None, dtype=parsing.MICROSECONDS)
    if source.valid_from_col is not None:
        valid_from = parsing.time(_VALID_FROM, types[_VALID_FROM], source.time_unit)
    return [
        parsing.identifier(_ID, types[_ID], source.nulls).alias(id_name),
        valid_from.alias(VALID_FROM),
        *(_value(name, source, types).alias(name) for name in source.columns),
    ]


def _value(name: str, source: AttributeSource, types: pl.Schema) -> pl.Expr:
    attribute, words = source.columns[name], source.nulls
    if attribute.flags:
        return _raised_flags(name, attribute, types)
    role = _role(name)
    dtype = types[role]
    if attribute.kind == "multi":
        return _values(role, dtype, attribute.separator, words)
    if attribute.kind == "numeric" and not attribute.pattern:
        number = parsing.number(role, dtype, source.decimal, words)
    else:
        # A category 10.0 of one file is the 10 of another.
        spell = parsing.identifier if attribute.kind == "categorical" else parsing.text
        value = spell(role, dtype, words)
        if attribute.pattern:
            value = value.str.extract(attribute.pattern, 1)
        if attribute.kind != "numeric":
            return value
        number = value.cast(pl.Float64, strict=False)
    lowest, highest = parse_scale(attribute.scale)
    return pl.when(number.is_finite() & number.is_between(lowest, highest)).then(number)


def _raised_flags(name: str, attribute: Attribute, types: pl.Schema) -> pl.Expr:
    """Return the values whose 0/1 column holds a 1 (or true)."""
    raised = []
    for value in attribute.flags:
        role = _flag(name, value)
        flag = parsing.text(role, types[role]).str.to_lowercase()
        raised.append(pl.when(flag.is_in(["1", "1.0", "true"])).then(pl.lit(value)))
    return pl.concat_list(raised).list.drop_nulls()


def _values(role: str, dtype: pl.DataType, separator: str, null_values: Collection[str]) -> pl.Expr:
    """Return a list of stripped, non-empty values, each once, in their order."""
    if isinstance(dtype, pl.List | pl.Array):
        inner = cast(pl.DataType, dtype.inner)
        if inner.is_nested():
            raise UserError(
                f"attribute {role.removeprefix('attribute:')!r} holds lists of lists or of "
                'structures: name a part of them in a mapping (column = "name.part"), or keep it '
                'as text (kind = "text").'
            )
        values = pl.col(role).cast(pl.List(inner))
        values = values.list.eval(parsing.as_text(pl.element(), inner, null_values))
    else:
        text = parsing.text(role, dtype, null_values)
        is_json = text.str.contains(
            r'^\[\s*(?:"(?:[^"\\]|\\.)*"\s*(?:,\s*"(?:[^"\\]|\\.)*"\s*)*)?\]$'
        )
        json = pl.when(is_json).then(text).str.json_decode(pl.List(pl.String))
        values = pl.when(is_json).then(json).otherwise(text.str.split(separator))
    stripped = values.list.eval(pl.element().str.strip_chars())
    return stripped.list.eval(pl.element().filter(pl.element() != "")).list.unique(
        maintain_order=True
    )


def _role(name: str) -> str:
    return f"attribute:{name}"


def _flag(name: str, value: str) -> str:
    return f"attribute:{name}:{value}"
