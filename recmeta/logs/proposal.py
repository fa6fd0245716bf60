"""A log without a mapping ──▶ how it may be read, by the names and contents of its columns."""

import dataclasses
import datetime
import re
import shlex
from typing import Any

import polars as pl

from recmeta.errors import UserError, listed
from recmeta.logs import column_roles
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
SHOWN_COLUMNS = 3
"""The most columns without a role that notes name."""
HEAD = 256 * 1024
"""Bytes of a file from which its encoding and its separator are inferred."""
SEPARATORS = (",", ";", "\t", "|", "::", "^")
SCALES = ("0:1", "1:5", "0.5:5", "0:5", "1:10", "0:10", "-10:10", "0:100")
MAX_FILES = 20
"""The most files whose columns are compared."""
MATRIX_COLUMNS = 6
"""A table with at least this many columns is a matrix of ratings; without a header, only if all
columns are numbers."""
SUFFIX = r"\d-[01]$"
"""How an id ends with whether it was taken, as in N123-1."""
MAX_COLUMNS = 200
"""The most columns that are examined."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal:
    """How a log may be read."""

    options: dict[str, Any]
    """Fields of `LogMapping` with their values, without those that have their defaults."""
    columns: list[str]
    """The columns of the file, as they are read."""
    notes: tuple[str, ...] = ()
    """Sentences on columns that seem to be meant and cannot be read."""

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
    _refuse_several_tables(source)
    names = [name for name in column_names(source) if name][:MAX_COLUMNS]
    if form.get("format", source.format) in ("csv", "tsv", AUTO) and _is_row(names):
        plain = dataclasses.replace(source, header=False)
        names = column_names(plain)[:MAX_COLUMNS]
        sample = sample_of(plain, names).head(SAMPLE_ROWS)
        if len(names) >= MATRIX_COLUMNS and all(
            column_roles.is_number(column_roles.text(sample[n])) for n in names
        ):
            raise UserError(
                f"{source.path!r} seems to be a table with a row for each user and a column for "
                "each item: use --layout matrix --no-header --user-col '' and, if a number such as "
                "99 means that nothing was rated, --null-values 99."
            )
        named: dict[str, str] = {}
        roles = column_roles.roles(sample, named)
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
        named = column_roles.by_name(sample, within)
        _refuse_matrix(source, sample, named)
        roles = column_roles.roles(sample, named)
    if not {"user", "item"} <= roles.keys():
        return None
    if column_roles.are_attributes(sample, roles, named):
        raise UserError(
            f"{source.path!r} seems to be a table of attributes, not a log: each value of "
            f"{roles['item']!r} and of {roles['user']!r} is in one row only. Give it with --items "
            "or --users beside the log; if it is a log, say --user-col and --item-col."
        )
    meaning = _meaning(sample, roles)
    notes = _unread(sample, named, meaning)
    if "value_col" not in meaning and "item_suffix" not in meaning:
        notes += _left_out(sample, roles)
    return Proposal(options=form | meaning, columns=names, notes=notes)


def _refuse_several_tables(source: Source) -> None:
    """Refuse files of different tables, as archives of data sets hold them."""
    if source.path.startswith(("http://", "https://")):
        return  # which is one file, and would be downloaded again
    files = [f for f in find_files(source)[:MAX_FILES] if FORMATS[f.format].has_header]
    columns = {f.name: FORMATS[f.format].column_names(source, f) for f in files if f.size}
    first = set(next(iter(columns.values()), ()))
    if all(set(names) <= first or first <= set(names) for names in columns.values()):
        return
    if all(
        len(set(names)) == len(first) and not first & set(names)
        for names in list(columns.values())[1:]
    ):
        return  # parts without a header of their own
    shown = "; ".join(f"{name} ({listed(names)})" for name, names in list(columns.items())[:5])
    raise UserError(
        f"{source.path!r} holds files with different columns: {shown}. Name the one that is the "
        "log, unpacked; --users and --items name files of attributes."
    )


def _unread(
    sample: pl.DataFrame, named: dict[str, str], meaning: dict[str, Any]
) -> tuple[str, ...]:
    """Return sentences on columns that are named for a time or a value and hold none."""
    notes = []
    for role, said in (
        (
            "time",
            "times such as {} are in an unknown format; --time-unit may give one for strptime",
        ),
        ("value", "values such as {} are not plain numbers such as 4.5"),
    ):
        column = named.get(role, "")
        texts = column_roles.text(sample[column]) if column else pl.Series(dtype=pl.String)
        if f"{role}_col" not in meaning and "item_suffix" not in meaning and len(texts):
            notes.append(f"The column {column!r} is left out: {said.format(repr(texts[0][:60]))}.")
    return tuple(notes)


def _left_out(sample: pl.DataFrame, roles: dict[str, str]) -> tuple[str, ...]:
    """Return sentences on the columns without a role that may be ratings."""
    notes = []
    for column in (name for name in sample.columns if name not in roles.values()):
        if not column_roles.is_graded(column_roles.text(sample[column])):
            continue
        found = _values(sample[column], column)
        scale = f" --scale={found['scale']}" if "scale" in found else ""
        notes.append(
            f"The column {column!r} is left out. If its numbers are ratings, add "
            f"--value-col {shlex.quote(column)}{scale}."
        )
    return tuple(notes[:SHOWN_COLUMNS])


def _refuse_matrix(source: Source, sample: pl.DataFrame, named: dict[str, str]) -> None:
    """Refuse a table whose columns are items: with a row for each user, and ratings elsewhere.

    Args:
        named: the columns that are named for a role.
    """
    first = named.get("user", sample.columns[0] if sample.columns else "")
    others = [name for name in sample.columns if name != first]
    if set(named) - {"user"} or len(others) + 1 < MATRIX_COLUMNS or sample.height < 2:
        return
    users = column_roles.text(sample[first])
    texts = [column_roles.text(sample[name]) for name in others]
    if users.n_unique() < sample.height or not all(column_roles.is_rating(text) for text in texts):
        return
    if len(pl.concat(texts).unique()) <= column_roles.FEW_KINDS:
        raise UserError(
            f"{source.path!r} seems to be a table with a row for each user and a column for each "
            f"item: use --layout matrix --user-col {shlex.quote(first)}, and --skip-columns for "
            "columns that are not items."
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
    """Return the separator that divides the lines most evenly, the first one as well if possible:
    it has the columns' names, or a title."""
    best, found = (False, 0), usual
    for separator in (usual, *SEPARATORS):
        counts = [line.count(separator) for line in lines]
        typical = sorted(counts)[len(counts) // 2]
        even = sum(count == typical for count in counts)
        if typical and (score := (counts[0] == typical, typical * even)) > best:
            best, found = score, separator
    return found


def _has_quotes_within(line: str, separator: str) -> bool:
    """Whether a field continues after a quoted word, so that quotes are ordinary characters."""
    sign = re.escape(separator)
    return re.search(rf'(?:^|{sign})"[^"]*" *[^\s"{sign}]', line) is not None


def _is_row(names: list[str]) -> bool:
    """Whether a first line holds values, not names."""
    numbers = sum(name.replace(".", "", 1).lstrip("-").isdigit() for name in names)
    return numbers > 0


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
    found |= _cells(sample[roles["item"]])
    if "event" in roles:
        found["event_col"] = roles["event"]
    if "value" in roles and "item_suffix" not in found:
        found |= _values(sample[roles["value"]], roles["value"])
    return found


def _cells(items: pl.Series) -> dict[str, str]:
    """Return what a mapping says of cells that hold several items each; nothing of others."""
    texts = column_roles.text(items)
    separator = column_roles.separator_within(texts)
    if column_roles.holds_lists(items) or not separator:
        return {}
    suffixes = texts.str.split(separator).explode().str.extract(SUFFIX, 0)
    both = suffixes.n_unique() > 1 and not suffixes.has_nulls()
    return {"item_separator": separator} | ({"item_suffix": "-"} if both else {})


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
