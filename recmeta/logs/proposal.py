"""A log without a mapping ──▶ how it may be read, by the names and contents of its columns."""

import dataclasses
import datetime
import re
import shlex
from typing import Any

import polars as pl

from recmeta.errors import UserError
from recmeta.logs.checking import contracts, parsing, spellings
from recmeta.logs.formats import FORMATS
from recmeta.logs.mapping import AUTO, LogMapping, Source
from recmeta.logs.reading.columns import column_names, paths_within, sample_of
from recmeta.logs.reading.files import HEAD_BYTES, find_files
from recmeta.logs.reading.packing import what_else
from recmeta.logs.reading.sources import read
from recmeta.logs.reading.text_files import encoding_of

SAMPLE_ROWS = 5000
SHOWN_ROWS = 10
HEAD = 256 * 1024
"""Bytes of a file from which its encoding and its separator are inferred."""
SEPARATORS = (",", ";", "\t", "|", "::", "^")
SCALES = ("0:1", "1:5", "0.5:5", "0:5", "1:10", "0:10", "-10:10", "0:100")
FEW_KINDS = 20
"""The most kinds of events that a column of kinds may have."""
RATINGS = (-10.0, 100.0)
"""The range in which values count as ratings if no column name says that they are."""
FEW_LEVELS = 4
"""The most values that a column of kinds may have; a column with more may hold ids."""
FEW_ROWS = 10
MATRIX_COLUMNS = 6
"""A table with at least this many columns is a matrix of ratings; without a header, only if all
columns are numbers."""
LIST = r"^\S*\d\S*(?: \S*\d\S*)+$"
DATES = ("iso", "%Y%m%d", *spellings.FORMATS)
"""Spellings of times that no id has."""
MAX_COLUMNS = 200
"""The most columns that are examined."""
_NAMES = {
    "user": (
        "userid user uid useridx visitorid visitor customerid customer memberid reviewerid "
        "username userpseudoid anonymousid accountid clientid personid sessionid session email"
    ),
    "item": (
        "itemid item iid productid product sku movieid movie bookid book isbn asin parentasin "
        "articleid newsid trackid songid artistid artist businessid animeid gameid appid contentid "
        "contentitemid offerid lineitemsku"
    ),
    "time": (
        "timestamp time ts datetime date eventtime eventtimestamp createdat createdtime when at "
        "dateadded reviewtime unixreviewtime ratedat day dt"
    ),
    "value": "rating ratings stars score overall rate value bookrating preference",
    "event": "event eventtype eventname action actiontype behavior behaviour behaviortype type",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal:
    """How a log may be read."""

    options: dict[str, Any]
    """Fields of `LogMapping` with their values, without those that have their defaults."""
    columns: list[str]
    """The columns of the file, as they are read."""

    def mapping(self, path: str) -> LogMapping:
        """Return the mapping of the log at a path."""
        return LogMapping(path=path, **self.options)


def propose(source: Source) -> Proposal | None:
    """Return how a log may be read; None if no column seems to be the user's or the item's id.

    Args:
        source: its path, and any known details of its format.

    Raises:
        UserError: if nothing is at the path, it cannot be read, or it is a matrix of ratings.
    """
    form = _form(source)
    source = dataclasses.replace(source, **form)
    names = [name for name in column_names(source) if name][:MAX_COLUMNS]
    if form.get("format", source.format) in ("csv", "tsv", AUTO) and _is_row(names):
        plain = dataclasses.replace(source, header=False)
        names = column_names(plain)[:MAX_COLUMNS]
        sample = sample_of(plain, names).head(SAMPLE_ROWS)
        if len(names) >= MATRIX_COLUMNS and all(_is_number(_text(sample[n])) for n in names):
            raise UserError(
                f"{source.path!r} seems to be a table with a row for each user and a column for "
                "each item: say --layout matrix --no-header --user-col '' and, where a number such "
                "as 99 says that nothing was rated, --null-values 99."
            )
        roles = _roles(sample, {})
        called = {column: role for role, column in roles.items()}
        own = {"user": "user_id", "item": "item_id", "time": "time", "value": "value"}
        columns = [own.get(called.get(name, ""), called.get(name, name)) for name in names]
        form["column_names"] = columns
        roles = {role: columns[names.index(column)] for role, column in roles.items()}
        sample = sample.rename(dict(zip(names, columns, strict=True)))
        names = columns
    else:
        within = paths_within(source)
        holders = {path.split(".")[0] for path in within}
        names = [*(n for n in names if n not in holders), *within][:MAX_COLUMNS]
        sample = sample_of(source, names).head(SAMPLE_ROWS)
        named = _by_name(sample, within)
        _refuse_matrix(source, sample, named)
        roles = _roles(sample, named)
    if not {"user", "item"} <= roles.keys():
        return None
    return Proposal(options=form | _meaning(sample, roles), columns=names)


def _refuse_matrix(source: Source, sample: pl.DataFrame, named: dict[str, str]) -> None:
    """Refuse a table whose columns are items: with a row for each user, and ratings elsewhere.

    Args:
        named: the columns that are named for a role.
    """
    first = named.get("user", sample.columns[0] if sample.columns else "")
    others = [name for name in sample.columns if name != first]
    if set(named) - {"user"} or len(others) + 1 < MATRIX_COLUMNS or sample.height < 2:
        return
    users = _text(sample[first])
    texts = [_text(sample[name]) for name in others]
    if users.n_unique() < sample.height or not all(_is_rating(text) for text in texts):
        return
    if len(pl.concat(texts).unique()) <= FEW_KINDS:
        raise UserError(
            f"{source.path!r} seems to be a table with a row for each user and a column for each "
            f"item: say --layout matrix --user-col {shlex.quote(first)}, and --skip-columns for "
            "columns that are no items."
        )


def shown_rows(mapping: LogMapping, now: datetime.datetime) -> pl.DataFrame:
    """Return the first rows of a log as they would be read, with the rules that they break.

    Raises:
        UserError: as reading does.
    """
    columns = ["user_id", "item_id", "timestamp", "event", "value", "rules"]
    for batch in read(mapping, find_files(mapping), contracts.wanted_columns(mapping)):
        good, bad = contracts.check(batch.head(SHOWN_ROWS), mapping, now)
        none = pl.lit([], dtype=pl.List(pl.String)).alias("rules")
        both = pl.concat([good.with_columns(none), bad], how="diagonal")
        return both.sort("line").select(columns).head(SHOWN_ROWS)
    return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def _form(source: Source) -> dict[str, Any]:
    """Return the format, the separator and the encoding of a file that its name and the defaults do
    not give."""
    found: dict[str, Any] = {}
    try:
        file = find_files(source)[0]
    except UserError:
        if source.format != AUTO or "://" in source.path:
            raise
        file = find_files(dataclasses.replace(source, format="csv"))[0]
        found["format"] = "csv"
    if FORMATS[file.format].table is not None or file.format == "parquet":
        return found
    with file.open() as stream:
        head = stream.peek(HEAD)
    if what_else(head[:HEAD_BYTES]):
        return found
    encoding = encoding_of(head)
    if encoding is None and source.encoding == "utf-8":
        try:
            head[: head.rfind(b"\n") + 1].decode("utf-8")
        except UnicodeDecodeError:
            found["encoding"] = "cp1252"
    if re.match(rb"(?i)sep=.\r?\n", head):
        return found
    text = head.decode(encoding or found.get("encoding", source.encoding), "replace")
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()][:100]
    if "format" in found and lines and lines[0].lstrip()[:1] in ("{", "["):
        return found | {"format": "jsonl"}
    if file.format in ("csv", "tsv") and lines and not source.separator:
        usual = "\t" if file.format == "tsv" else ","
        separator = _separator(lines, usual)
        if "format" in found and separator == "\t":
            found["format"] = "tsv"
        elif separator != usual:
            found["separator"] = separator
        if any(_has_quotes_within(line, separator) for line in lines):
            found["quote"] = ""
    return found


def _separator(lines: list[str], usual: str) -> str:
    """Return the separator that divides the lines most evenly."""
    best, found = 0, usual
    for separator in (usual, *SEPARATORS):
        counts = [line.count(separator) for line in lines]
        typical = sorted(counts)[len(counts) // 2]
        even = sum(count == typical for count in counts)
        if typical and typical * even > best:
            best, found = typical * even, separator
    return found


def _has_quotes_within(line: str, separator: str) -> bool:
    """Whether a field continues after a quoted word, so that quotes are ordinary characters."""
    sign = re.escape(separator)
    return re.search(rf'(?:^|{sign})"[^"]*" *[^\s"{sign}]', line) is not None


def _is_row(names: list[str]) -> bool:
    """Whether a first line holds values, not names."""
    numbers = sum(name.replace(".", "", 1).lstrip("-").isdigit() for name in names)
    return numbers > 0


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.rpartition(":")[0] or name)).lower()


def _by_name(sample: pl.DataFrame, within: list[str]) -> dict[str, str]:
    """Return the columns by the role that they are named for: first those of the file itself, then
    those within structures, of which the last part may be the name, the fullest first."""
    roles: dict[str, str] = {}
    own = [name for name in sample.columns if name not in within]
    # What a change of a row was before (Debezium) is nothing that holds.
    inner = [name for name in sample.columns if name in within]
    inner.sort(key=lambda name: (sample[name].null_count(), name.startswith("before.")))
    for names, parts in ((own, False), (inner, True)):
        letters = {n: {_letters(n), *([_letters(n.split(".")[-1])] * parts)} for n in names}
        for role, words in _NAMES.items():
            for word in words.split() if role not in roles else ():
                found = [n for n in names if word in letters[n] and n not in roles.values()]
                if found:
                    roles[role] = found[0]
                    break
    return roles


def _roles(sample: pl.DataFrame, named: dict[str, str]) -> dict[str, str]:
    """Return the columns of a sample by role: first by name, then by content."""
    roles = dict(named)
    if "time" in roles and spellings.unit_of(sample[roles["time"]]) is None:
        del roles["time"]
    left = [name for name in sample.columns if name not in roles.values()]
    texts = {name: _text(sample[name]) for name in left}
    left = [name for name in left if len(texts[name])]
    if "time" not in roles:
        times = [n for n in left if spellings.unit_of(texts[n]) is not None]
        times = [n for n in times if texts[n].n_unique() > 1 or len(texts[n]) == 1] or times
        if times:
            roles["time"] = times[-1]
            left.remove(times[-1])
    needed = [role for role in ("user", "item") if role not in roles]
    kinds = [n for n in left if _is_kind(texts[n]) and not _is_number(texts[n])]
    left = [n for n in left if not _numbers_rows(texts[n])]
    ids = [n for n in left if n not in kinds and spellings.unit_of(texts[n]) not in DATES]
    if len(ids) < len(needed):  # a small log has few users and items
        several = [n for n in kinds if n in left and texts[n].n_unique() > FEW_LEVELS]
        ids = [n for n in left if n in ids or n in several]
    for role, column in zip(needed, ids, strict=False):
        roles[role] = column
        left.remove(column)
    kinds = [name for name in kinds if name in left]
    if "event" not in roles and not named and kinds:
        roles["event"] = kinds[0]
        left.remove(kinds[0])
    if "value" not in roles and not named:
        values = [n for n in left if _is_rating(texts[n])]
        if values:
            roles["value"] = values[0]
    return roles


def _text(values: pl.Series) -> pl.Series:
    frame = values.to_frame("v").select(parsing.text("v", values.dtype))
    return frame.to_series().drop_nulls()


def _is_kind(values: pl.Series) -> bool:
    return len(values) > FEW_KINDS and values.n_unique() <= FEW_KINDS


def _is_number(values: pl.Series) -> bool:
    return spellings.decimal_of(values) is not None


def _is_rating(values: pl.Series) -> bool:
    numbers = values.cast(pl.Float64, strict=False)
    few = values.n_unique() <= FEW_KINDS
    return few and bool(numbers.is_between(*RATINGS).fill_null(False).all())


def _numbers_rows(values: pl.Series) -> bool:
    """Whether values number the rows: no user has two."""
    numbers = values.cast(pl.Int64, strict=False)
    if len(values) < FEW_ROWS or numbers.has_nulls():
        return False
    return bool((numbers.diff().drop_nulls() == 1).all())


def _meaning(sample: pl.DataFrame, roles: dict[str, str]) -> dict[str, Any]:
    """Return what a mapping says of the columns."""
    found: dict[str, Any] = {}
    for role, usual in (("user", "user_id"), ("item", "item_id")):
        if roles[role] != usual:
            found[f"{role}_col"] = roles[role]
    if "time" in roles:
        found["time_col"] = roles["time"]
        unit = spellings.unit_of(sample[roles["time"]])
        if unit not in (None, "s"):
            found["time_unit"] = unit
    items = _text(sample[roles["item"]])
    if len(items) and float(items.str.contains(LIST).mean() or 0) > spellings.SHARE:  # type: ignore[arg-type]
        found["item_separator"] = " "
    if "event" in roles:
        found["event_col"] = roles["event"]
    if "value" in roles:
        found |= _values(sample[roles["value"]], roles["value"])
    return found


def _values(values: pl.Series, column: str) -> dict[str, Any]:
    """Return what a mapping says of a rating; nothing of a column without numbers."""
    decimal = spellings.decimal_of(values)
    if decimal is None:
        return {}
    found: dict[str, Any] = {"value_col": column}
    if decimal:
        found["decimal"] = decimal
    frame = values.to_frame("v").select(parsing.number("v", values.dtype, decimal))
    levels = frame.to_series().drop_nulls().unique().sort().to_list()
    if len(levels) > 2 and levels[0] == -1 and levels[1] >= 0:
        found["implicit_value"], levels = -1.0, levels[1:]
    for scale in SCALES:
        low, high = map(float, scale.split(":"))
        if levels and low <= levels[0] and levels[-1] <= high:
            return found | {"scale": scale}
    return found
