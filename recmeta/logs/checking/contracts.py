"""The rules that every row of a log must keep, checked all at once.

They are a dataframely schema: each rule is one vectorised expression with a name, `filter`
evaluates all of them and says of every failed row *which* it broke (a `validate` that stops at the
first would not do), and the same class documents what rows behind this point are sure to be.
Pandera's lazy validation reports failures too, but as one row per case, to be joined back.

Whatever depends on the mapping or the clock (the scale, the latest time) is passed as columns, so
that the rules stay one static, readable list.
"""

import datetime
from collections.abc import Collection

import dataframely as dy
import polars as pl

from recmeta.logs.checking import parsing
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.log_format import Wanted, text_of
from recmeta.schema import EVENT, FILE, ITEM_ID, LINE, RAW, RULES, TIMESTAMP, USER_ID, VALUE

MAX_CLOCK_SKEW = datetime.timedelta(days=1)
_ROLES = {
    "user": "user_col",
    "item": "item_col",
    "time": "time_col",
    "event": "event_col",
    "value": "value_col",
}


# Whether the row's fields cannot be separated, in which case no other rule applies to them.
_UNREADABLE = ~pl.col("separated") | ~pl.col("parsed") | ~pl.col("unambiguous")


class LogRow(dy.Schema):
    """A parsed row of a log. A value that could not be parsed is null; a rule has the name of its
    fault."""

    file = dy.String()
    line = dy.Int64()
    raw = dy.Any()  # text, or the structure that it is made of
    user_id = dy.String(nullable=True)
    item_id = dy.String(nullable=True)
    timestamp = dy.Datetime(time_unit="us", time_zone="UTC", nullable=True)
    event = dy.String(nullable=True)
    value = dy.Float64(nullable=True, allow_inf=True, allow_nan=True)
    # What the rules need to know beside the row's own content.
    encoded = dy.Bool()  # every byte is of the declared encoding
    separated = dy.Bool()  # as many fields as there are columns
    parsed = dy.Bool()  # a JSON object
    unambiguous = dy.Bool()  # with each key once
    time_given = dy.Bool()  # not empty; true where the source has no times
    time_expected = dy.Bool()  # the source has times
    value_given = dy.Bool()
    latest_time = dy.Datetime(time_unit="us", time_zone="UTC")
    lowest_value = dy.Float64(allow_inf=True)
    highest_value = dy.Float64(allow_inf=True)
    implicit = dy.Bool()  # the value says "met, not rated", which is on no scale

    @dy.rule()
    def wrong_encoding(cls) -> pl.Expr:
        return cls.encoded.col

    @dy.rule()
    def ragged_line(cls) -> pl.Expr:
        return cls.separated.col

    @dy.rule()
    def unparsable_json(cls) -> pl.Expr:
        return cls.parsed.col

    @dy.rule()
    def repeated_key(cls) -> pl.Expr:
        return cls.unambiguous.col

    @dy.rule()
    def missing_user_id(cls) -> pl.Expr:
        return cls.user_id.col.is_not_null() | _UNREADABLE

    @dy.rule()
    def missing_item_id(cls) -> pl.Expr:
        return cls.item_id.col.is_not_null() | _UNREADABLE

    @dy.rule()
    def missing_time(cls) -> pl.Expr:
        return cls.time_given.col | _UNREADABLE

    @dy.rule()
    def unparsable_time(cls) -> pl.Expr:
        parsable = cls.timestamp.col.is_not_null() | ~cls.time_expected.col
        return parsable | ~cls.time_given.col | _UNREADABLE

    @dy.rule()
    def future_time(cls) -> pl.Expr:
        return (cls.timestamp.col <= cls.latest_time.col).fill_null(True)

    @dy.rule()
    def missing_value(cls) -> pl.Expr:
        return cls.value_given.col | _UNREADABLE

    @dy.rule()
    def unparsable_value(cls) -> pl.Expr:
        return cls.value.col.is_not_null() | ~cls.value_given.col | _UNREADABLE

    @dy.rule()
    def value_not_finite(cls) -> pl.Expr:
        return cls.value.col.is_finite().fill_null(True)

    @dy.rule()
    def value_out_of_scale(cls) -> pl.Expr:
        inside = cls.value.col.is_between(cls.lowest_value.col, cls.highest_value.col)
        return (inside | ~cls.value.col.is_finite() | cls.implicit.col).fill_null(True)

    @dy.rule()
    def unknown_event(cls) -> pl.Expr:
        return cls.event.col.is_not_null() | _UNREADABLE


READ = (USER_ID, ITEM_ID, TIMESTAMP, EVENT, VALUE)
CHECKED_COLUMNS = (*READ, FILE, LINE, RAW)


def wanted_columns(mapping: LogMapping) -> Wanted:
    """Return the columns that `check` needs from `sources.read`."""
    columns = {role: getattr(mapping, field) for role, field in _ROLES.items()}
    if mapping.layout == "matrix":  # what each cell becomes
        columns |= {"item": "item", "value": "value"}
    elif not mapping.item_col:
        columns["item"] = None
    return Wanted(columns={role: name for role, name in columns.items() if name is not None})


def check(
    batch: pl.DataFrame, mapping: LogMapping, now: datetime.datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Divide a batch into rows that keep every rule and rows that break some.

    Args:
        batch: what `sources.read` yields for `wanted_columns(mapping)`.
        now: times more than a day after it are in the future.

    Returns:
        The good rows, with `CHECKED_COLUMNS`, `raw` as it came; the bad ones, with `file`, `line`,
        `rules`, `raw` as text and, where they could be read, `user_id`, `item_id`, `timestamp`,
        `event` and `value`.
    """
    good, failure = LogRow.filter(_parse(batch, mapping, now), cast=False)
    details = failure.details()
    rules = [name for name in details.columns if name not in LogRow.column_names()]
    broken = [pl.when(pl.col(rule) == "invalid").then(pl.lit(rule)) for rule in rules]
    rules_broken = pl.concat_list(broken).list.drop_nulls().alias(RULES)
    bad = details.select(FILE, LINE, rules_broken, text_of(details.schema[RAW]), *READ)
    return good.select(CHECKED_COLUMNS), bad


def has_come_due(now: datetime.datetime) -> pl.Expr:
    """Whether a row of the quarantine was refused only for a time in the future, which has now
    come.

    Rows of which only the text is kept have null times.
    """
    only_its_time = pl.col(RULES) == pl.lit(["future_time"])
    return (only_its_time & (pl.col(TIMESTAMP) <= now + MAX_CLOCK_SKEW)).fill_null(False)


def _parse(batch: pl.DataFrame, mapping: LogMapping, now: datetime.datetime) -> pl.DataFrame:
    types = batch.schema
    has_time, has_value = mapping.time_col is not None, mapping.has_values
    lowest, highest = mapping.bounds
    words = mapping.nulls
    value = pl.lit(1.0)
    if has_value:
        value = parsing.number("value", types["value"], mapping.decimal, words)
    implicit = pl.lit(False)
    if mapping.implicit_value is not None:
        implicit = (value == mapping.implicit_value).fill_null(False)
    return batch.select(
        pl.col(FILE),
        pl.col(LINE),
        pl.col(RAW),
        user_id=parsing.identifier("user", types["user"], words),
        item_id=parsing.identifier("item", types["item"], words)
        if "item" in types
        else pl.lit(None, dtype=pl.String),
        timestamp=parsing.time("time", types["time"], mapping.time_unit)
        if has_time
        else pl.lit(None, dtype=parsing.MICROSECONDS),
        event=pl.when(implicit).then(pl.lit("view")).otherwise(_event(mapping, types)),
        value=pl.when(implicit).then(1.0).otherwise(value),
        encoded=~pl.col("wrong_encoding"),
        separated=~pl.col("ragged_line"),
        parsed=~pl.col("unparsable_json"),
        unambiguous=~pl.col("repeated_key"),
        time_given=_given("time", types, words) if has_time else pl.lit(True),
        time_expected=pl.lit(has_time),
        value_given=_given("value", types, words) if has_value else pl.lit(True),
        latest_time=pl.lit(now + MAX_CLOCK_SKEW, dtype=parsing.MICROSECONDS),
        lowest_value=pl.lit(lowest),
        highest_value=pl.lit(highest),
        implicit=implicit,
    )


def _given(role: str, types: pl.Schema, null_values: Collection[str]) -> pl.Expr:
    """Whether a field has a value. NaN counts as one, which is not finite."""
    words = [word for word in null_values if word.lower() != "nan"]
    if types[role] == pl.String:
        return parsing.text(role, types[role], words).is_not_null()
    if role == "value" and words != [*filter(_is_word, words)]:
        number = parsing.number(role, types[role], null_values=words)
        return number.is_not_null()
    return pl.col(role).is_not_null()


def _is_word(text: str) -> bool:
    """Whether a text is not a number."""
    try:
        float(text)
    except ValueError:
        return True
    return False


def _event(mapping: LogMapping, types: pl.Schema) -> pl.Expr:
    if mapping.event_col is None:
        return pl.lit(mapping.constant_event)
    name = parsing.text("event", types["event"], mapping.nulls)
    if not mapping.events:
        return name
    return name.replace_strict(mapping.events, default=None, return_dtype=pl.String)
