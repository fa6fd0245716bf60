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
"""The format of a source whose files' names say it."""
Kind = Literal["categorical", "multi", "numeric", "text"]
Layout = Literal["rows", "matrix"]
TIME_UNITS = ("s", "ms", "us", "ns", "d", "iso")
NULL_VALUES = ("\\N", "NULL", "null", "NA", "N/A", "#N/A", "None", "nan", "NaN", "<NA>")
"""What databases and data frames write where there is nothing."""
EARLIEST_TIME = "1990-01-01"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows are and how they are spelled."""

    path: str
    """A file, a folder of files of one format, a Delta table, or a URL of one (http, s3, gs…)."""
    format: str = AUTO
    """A name in `recmeta.logs.formats.FORMATS`; `auto` goes by the file's ending (`.gz` may follow
    it)."""
    separator: str = ""
    """CSV and TSV: what stands between fields, one character or more. Empty: `,` or a tab."""
    quote: str = '"'
    """CSV and TSV: the character around fields that hold separators. Empty: no quoting. A separator
    of several characters never comes with quoting."""
    escape: str = ""
    """CSV and TSV: the character that takes away a quote's meaning inside quotes; doubling it
    always does."""
    encoding: str = DEFAULT_ENCODING
    """CSV, TSV and JSON lines: any text encoding that Python knows. UTF-16 is seen where none is
    named."""
    column_names: tuple[str, ...] = ()
    """CSV and TSV: the columns of a file without a header line. Empty: the first line has them."""
    header: bool = True
    """CSV and TSV: whether the first line has the names of the columns. False: they are column_1,
    column_2 and so on, unless `column_names` says more."""
    sheet: str = ""
    """Workbooks: the sheet's name. Empty: the only one that has rows."""
    null_values: tuple[str, ...] = ()
    """Texts that stand for nothing beside NULL_VALUES, compared letter by letter: a row with one as
    its user's id is a row without a user."""
    keep_default_nulls: bool = True
    """Whether NULL_VALUES stand for nothing. False where one of them is an id or a category."""
    decimal: str = ""
    """How numbers in texts are written: `,` for 1.234,5 (a comma before the fraction; points,
    spaces or apostrophes between thousands), `.` for 1,234.5. Empty: 1234.5 alone."""

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
                raise LookupError(f"{self.encoding} is no encoding of text")
        except (LookupError, ValueError) as error:
            raise UserError(
                f"encoding is {self.encoding!r}, which Python does not know. "
                "Common ones: utf-8, latin-1, cp1252, utf-16."
            ) from error

    @property
    def nulls(self) -> tuple[str, ...]:
        """All texts that stand for nothing."""
        return (*(NULL_VALUES if self.keep_default_nulls else ()), *self.null_values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute of a user or an item and where its value comes from."""

    kind: Kind
    """categorical and text become strings, multi a list of strings, numeric a float."""
    column: str = ""
    """The column that holds it. Empty: the column of the attribute's own name."""
    separator: str = "|"
    """multi: what stands between values (a list column or a JSON list needs none)."""
    flags: dict[str, str] = dataclasses.field(default_factory=dict)
    """multi: value to column, for one 0/1 column per value; replaces `column`."""
    pattern: str = ""
    r"""A regular expression (Rust's) whose first group is the value, such as `\((\d{4})\)$`."""
    scale: str = ""
    """numeric: "lowest:highest", either end may be open; values outside of it become null."""

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
    """The column of the time from which the row holds. None: it always held."""
    time_unit: str = "s"
    """How `valid_from_col` is spelled: as `LogMapping.time_unit`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_time_unit(self.time_unit)
        for name in self.columns:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise UserError(f"attribute {name!r}: use letters, digits and underscores only.")
            if name in (USER_ID, ITEM_ID, VALID_FROM):
                raise UserError(f"attribute {name!r} bears the name of a key column; rename it.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMapping(Source):
    """A log of user-item events: its files and what its columns mean."""

    user_col: str = "user_id"
    """The column of the user's id."""
    item_col: str = "item_id"
    """The column of the item's id. Empty: the rows name users of whom nothing is known."""
    time_col: str | None = None
    """The column of the event's time. None: the source has no times."""
    time_unit: str = "s"
    """How times are spelled: s, ms, us, ns or d (days) since 1970, iso (ISO 8601), or a strptime
    format.
    Times without a zone are UTC. Columns that are typed as times need no unit."""
    event_col: str | None = None
    """The column of the event's kind. None: every row is of the kind `event`."""
    events: dict[str, str] = dataclasses.field(default_factory=dict)
    """The kinds allowed in `event_col`, each with the name that it gets. Empty: any, as it is."""
    event: str = ""
    """The kind of every row where there is no `event_col`. Empty: `rating` with a `value_col`,
    `click` without."""
    value_col: str | None = None
    """The column of the rating, the count or the amount. None: every value is 1."""
    scale: str = ""
    """The values allowed, "lowest:highest"; either end may be open."""
    implicit_value: float | None = None
    """A value that says "met, but not rated" (Book-Crossing's 0): such rows become `view` events of
    value 1, whatever the scale."""
    item_separator: str = ""
    """What stands between the items of a cell that holds several, each of which becomes a row.
    Lists, in Parquet and JSON, need none."""
    item_suffix: str = ""
    """What stands between an item and its value in such a cell: `-` in `N123-1 N7-0`."""
    layout: Layout = "rows"
    """`rows`: a row is an event. `matrix`: a row is a user, every other column an item, and each
    cell that is not empty a rating; `user_col` may be empty, for a row's number."""
    skip_columns: tuple[str, ...] = ()
    """matrix: the columns that are no items."""
    earliest_time: str = EARLIEST_TIME
    """A log most of whose times are before this day is refused: it is read in a wrong unit."""
    max_bad_share: float = 0.1
    """The run stops, publishing nothing, where a larger share of the rows breaks a rule. 0 to 1."""
    users: AttributeSource | None = None
    """The users' attributes, where there are any."""
    items: AttributeSource | None = None
    """The items' attributes, where there are any."""

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
            raise UserError("events says what event_col may hold, but event_col is not given.")
        roles = (self.time_col, self.event_col, self.value_col, self.item_separator)
        if self.layout == "matrix" and any(roles):
            raise UserError(
                "the layout is a matrix, whose columns are items and whose cells are values: leave "
                "out time_col, event_col, value_col and item_separator."
            )
        if self.item_suffix and self.value_col:
            raise UserError("give either item_suffix or value_col: each says what the values are.")
        if (self.scale or self.implicit_value is not None) and not self.has_values:
            raise UserError("scale and implicit_value speak of value_col, which is not given.")

    @property
    def has_values(self) -> bool:
        """Whether the log says a value of each row."""
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
        UserError: where the file cannot be read, or says what a mapping cannot.
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
        UserError: where it is spelled otherwise or is empty as an interval.
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
