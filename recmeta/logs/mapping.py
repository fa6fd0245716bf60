"""Which column of a log is the user, the item, the time, the event and the value.

A mapping comes from a TOML or JSON file, from the command line's options, or from
`recmeta.logs.fetching.datasets` for the data sets that are built in.
"""

import codecs
import dataclasses
import datetime
import math
import os
import re
from pathlib import Path
from typing import Any, Literal

from recmeta import strict_json
from recmeta.config import parse, read_toml
from recmeta.errors import UserError, did_you_mean
from recmeta.handwritten import read_text
from recmeta.logs.formats import FORMATS
from recmeta.schema import ITEM_ID, RATING_EVENT, USER_ID, VALID_FROM

DEFAULT_ENCODING = "utf-8"
AUTO = "auto"
"""The format of a source whose file names show their format."""
Kind = Literal["categorical", "multi", "numeric", "text"]
Layout = Literal["rows", "matrix"]
TIME_UNITS = ("s", "ms", "us", "ns", "d", "iso")
NULL_VALUES = ("\\N", "NULL", "null", "NA", "N/A", "#N/A", "None", "nan", "NaN", "<NA>")
"""What databases and data frames write for a missing value."""
EARLIEST_TIME = "1990-01-01"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows are and how they are written."""

    path: str
    """A file, a folder of files of one format, a Delta table, or a URL of one (http, s3, gs…)."""
    format: str = AUTO
    """A name in `recmeta.logs.formats.FORMATS`; `auto` decides by the file's ending (`.gz` may
    follow it)."""
    separator: str = ""
    """For CSV and TSV, the separator between fields, of one character or more. If empty, `,` or a
    tab."""
    quote: str = '"'
    """For CSV and TSV, the character around fields that hold separators. If empty, there is no
    quoting. Quoting is never used with a separator of several characters."""
    escape: str = ""
    """For CSV and TSV, the character that escapes a quote inside quotes; doubling the quote always
    does."""
    encoding: str = DEFAULT_ENCODING
    """For CSV, TSV and JSON lines, any text encoding that Python knows. UTF-16 is recognised if no
    encoding is named."""
    column_names: tuple[str, ...] = ()
    """For CSV and TSV, the columns of a file without a header line. If empty, the first line has
    them."""
    header: bool = True
    """For CSV and TSV, whether the first line has the names of the columns. If false, they are
    column_1, column_2 and so on, unless `column_names` gives others."""
    sheet: str = ""
    """For workbooks, the name of the sheet. If empty, the only sheet that has rows."""
    null_values: tuple[str, ...] = ()
    """Texts that mean a missing value in addition to NULL_VALUES, compared exactly: a row with one
    of them as its user's id is a row without a user."""
    keep_default_nulls: bool = True
    """Whether NULL_VALUES mean a missing value. Set it to false if one of them is an id or a
    category."""
    decimal: str = ""
    """How numbers in texts are written: `,` for 1.234,5 (a comma before the fraction; points,
    spaces or apostrophes between thousands), `.` for 1,234.5. If empty, only 1234.5 is read."""

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("path is empty: name a file, a folder or a URL.")
        if self.format != AUTO and self.format not in FORMATS:
            known = [AUTO, *FORMATS]
            raise UserError(
                f"format is {self.format!r}; it must be one of {known}."
                f"{did_you_mean(self.format, known)}"
            )
        if len(self.separator) > 1 and self.quote == '"':
            object.__setattr__(self, "quote", "")
        for name in ("quote", "escape"):
            if len(getattr(self, name)) > 1:
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be one character.")
        if self.decimal not in ("", ".", ","):
            raise UserError(f"decimal is {self.decimal!r}; it must be ',' or '.'.")
        if self.separator and self.separator in (self.quote, self.escape):
            raise UserError(f"separator is {self.separator!r}, the same as quote or escape.")
        if len(self.separator) > 1 and self.quote:
            raise UserError(
                f"separator {self.separator!r} has several characters; quoting works with one: "
                'set quote = "".'
            )
        try:
            codec = codecs.lookup(self.encoding)
            if not codec._is_text_encoding:
                raise LookupError(f"{self.encoding} is not a text encoding")
        except (LookupError, ValueError) as error:
            raise UserError(
                f"encoding is {self.encoding!r}, which Python does not know. "
                "Common ones: utf-8, latin-1, cp1252, utf-16."
            ) from error

    @property
    def nulls(self) -> tuple[str, ...]:
        """All texts that mean a missing value."""
        return (*(NULL_VALUES if self.keep_default_nulls else ()), *self.null_values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute of a user or an item and where its value comes from."""

    kind: Kind
    """categorical and text become strings, multi a list of strings, numeric a float."""
    column: str = ""
    """The column that holds it. If empty, the column with the attribute's own name."""
    separator: str = "|"
    """For multi, the separator between values (a list column or a JSON list needs none)."""
    flags: dict[str, str] = dataclasses.field(default_factory=dict)
    """For multi with a 0/1 column for each value, the column of each value; replaces `column`."""
    pattern: str = ""
    r"""A regular expression (Rust's) whose first group is the value, such as `\((\d{4})\)$`."""
    scale: str = ""
    """For numeric, "lowest:highest"; either end may be open, and values outside it become null."""

    def __post_init__(self) -> None:
        parse_scale(self.scale)
        if self.flags and self.kind != "multi":
            raise UserError(f"flags make an attribute of kind 'multi', but kind is {self.kind!r}.")
        if self.kind == "multi" and not self.separator:
            raise UserError("separator is empty; a multi attribute needs one, such as '|'.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeSource(Source):
    """A file of users or items with their attributes."""

    id_col: str
    """The column of the user's or the item's id."""
    columns: dict[str, Attribute]
    """Attribute name to where it comes from."""
    valid_from_col: str | None = None
    """The column of the time from which the row is valid. If None, it has always been valid."""
    time_unit: str = "s"
    """How `valid_from_col` is spelled: as `LogMapping.time_unit`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_time_unit(self.time_unit)
        for name in self.columns:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise UserError(f"attribute {name!r}: use letters, digits and underscores only.")
            if name in (USER_ID, ITEM_ID, VALID_FROM):
                raise UserError(f"attribute {name!r} has the name of a key column; rename it.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMapping(Source):
    """A log of user-item events: its files and what its columns mean."""

    user_col: str = "user_id"
    """The column of the user's id."""
    item_col: str = "item_id"
    """The column of the item's id. If empty, the rows name users without interactions."""
    time_col: str | None = None
    """The column of the event's time. If None, the source has no times."""
    time_unit: str = "s"
    """How times are written: s, ms, us, ns or d (days) since 1970, iso (ISO 8601), or a strptime
    format. Times without a zone are UTC. Columns that are typed as times need no unit."""
    event_col: str | None = None
    """The column of the event's kind. If None, every row is of the kind `event`."""
    events: dict[str, str] = dataclasses.field(default_factory=dict)
    """The kinds allowed in `event_col`, each with the name that it gets. If empty, any kind is
    allowed and keeps its name."""
    event: str = ""
    """The kind of every row if there is no `event_col`. If empty, `rating` with a `value_col` and
    `click` without."""
    value_col: str | None = None
    """The column of the rating, the count or the amount. If None, every value is 1."""
    scale: str = ""
    """The values allowed, "lowest:highest"; either end may be open."""
    implicit_value: float | None = None
    """A value that says "met, but not rated" (Book-Crossing's 0): such rows become `view` events of
    value 1, whatever the scale."""
    item_separator: str = ""
    """The separator between the items of a cell that holds several, each of which becomes a row.
    Lists, in Parquet and JSON, need none."""
    item_suffix: str = ""
    """The separator between an item and its value in such a cell: `-` in `N123-1 N7-0`."""
    layout: Layout = "rows"
    """`rows`: a row is an event. `matrix`: a row is a user, every other column an item, and each
    cell that is not empty a rating; `user_col` may be empty, for a row's number."""
    skip_columns: tuple[str, ...] = ()
    """For `matrix`, the columns that are not items."""
    earliest_time: str = EARLIEST_TIME
    """A log with most of its times before this day is refused, because its unit is probably
    wrong."""
    max_bad_share: float = 0.1
    """If a larger share of the rows than this (0 to 1) breaks a rule, the run stops and publishes
    nothing."""
    users: AttributeSource | None = None
    """The users' attributes, if there are any."""
    items: AttributeSource | None = None
    """The items' attributes, if there are any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_time_unit(self.time_unit)
        parse_scale(self.scale)
        try:
            datetime.date.fromisoformat(self.earliest_time)
        except ValueError as error:
            raise UserError(
                f"earliest_time is {self.earliest_time!r}; write it as {EARLIEST_TIME}."
            ) from error
        if not 0 <= self.max_bad_share <= 1:
            raise UserError(f"max_bad_share is {self.max_bad_share}; it must be from 0 to 1.")
        if self.event and self.event_col:
            raise UserError("give either event (one kind for all rows) or event_col, not both.")
        if self.events and not self.event_col:
            raise UserError("events lists the kinds in event_col, but event_col is not given.")
        roles = (self.time_col, self.event_col, self.value_col, self.item_separator)
        if self.layout == "matrix" and any(roles):
            raise UserError(
                "the layout is a matrix, whose columns are items and whose cells are values: leave "
                "out time_col, event_col, value_col and item_separator."
            )
        if self.item_suffix and self.value_col:
            raise UserError("give either item_suffix or value_col: each says what the values are.")
        if (self.scale or self.implicit_value is not None) and not self.has_values:
            raise UserError("scale and implicit_value describe value_col, which is not given.")

    @property
    def has_values(self) -> bool:
        """Whether the log has a value for each row."""
        return bool(self.value_col or self.item_suffix or self.layout == "matrix")

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value allowed, infinite where open."""
        return parse_scale(self.scale)

    @property
    def constant_event(self) -> str:
        """The kind of every row where there is no `event_col`."""
        is_rating = self.value_col or self.layout == "matrix"
        return self.event or (RATING_EVENT if is_rating else "click")


def load_mapping(path: str | Path, log: str | None = None) -> LogMapping:
    """Read a mapping from a `.toml` or `.json` file; paths in it are relative to it.

    Args:
        log: the log's path, in place of the mapping's `path`; relative to the current folder.

    Raises:
        UserError: if the file cannot be read, or is not a valid mapping.
    """
    file = Path(path)
    data = _read_json(file) if file.suffix == ".json" else read_toml(file, "mapping")
    if not isinstance(data, dict):
        raise UserError(f"the mapping {str(file)!r} must be a table of names and values.")
    if log is not None:
        data["path"] = log if "://" in log else os.path.abspath(os.path.expanduser(log))
    mapping = parse(LogMapping, data)
    return relative_to(mapping, file.parent)


def _read_json(file: Path) -> Any:
    text = read_text(file, "mapping")
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise UserError(f"the mapping {str(file)!r} is not valid JSON: {error}") from error


def relative_to(mapping: LogMapping, folder: Path) -> LogMapping:
    """Return the mapping with its relative paths taken from `folder`."""

    def resolve(path: str) -> str:
        return path if "://" in path else str(folder / os.path.expanduser(path))

    def section(source: AttributeSource | None) -> AttributeSource | None:
        return source and dataclasses.replace(source, path=resolve(source.path))

    return dataclasses.replace(
        mapping,
        path=resolve(mapping.path),
        users=section(mapping.users),
        items=section(mapping.items),
    )


def parse_scale(scale: str) -> tuple[float, float]:
    """Return the ends of "lowest:highest", infinite where open or where `scale` is empty.

    Raises:
        UserError: if it is written in another way, or the interval is empty.
    """
    if not scale:
        return -math.inf, math.inf
    low, colon, high = scale.partition(":")
    try:
        bounds = (float(low or "-inf"), float(high or "inf"))
    except ValueError:
        bounds = (math.nan, math.nan)
    if not colon or not bounds[0] <= bounds[1]:
        raise UserError(f"scale is {scale!r}; write it as lowest:highest, such as 1:5 or 0:.")
    return bounds


def _check_time_unit(unit: str) -> None:
    if unit not in TIME_UNITS and "%" not in unit:
        raise UserError(
            f"time_unit is {unit!r}; it must be one of {', '.join(TIME_UNITS)} or a strptime "
            f"format such as '%Y-%m-%d %H:%M:%S'.{did_you_mean(unit, TIME_UNITS)}"
        )
