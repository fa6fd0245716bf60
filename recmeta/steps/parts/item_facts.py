"""Facts about items that business rules need: the lists in files, and the items' first
interactions."""

import csv
import datetime
import io
import os
import re
from pathlib import Path

import polars as pl

from recmeta import handwritten, schema, strict_json
from recmeta.errors import UserError, did_you_mean, listed
from recmeta.logs import tables
from recmeta.logs.checking import parsing
from recmeta.serving.rules import ItemFacts, Rules
from recmeta.workspace import Workspace

SEPARATORS = ",;\t|"
"""Possible separators between the fields of a table: a comma, or what a spreadsheet writes instead
if numbers have decimal commas."""
_QUOTED = r'\s*"(?:[^"]|"")*"'


def item_facts(rules: Rules, workspace: Workspace, now: datetime.datetime) -> ItemFacts:
    """Return the facts about items that the rules need.

    Raises:
        UserError: if a file does not exist, cannot be read, or has no column `item_id`.
    """
    return ItemFacts(
        denied=() if rules.deny is None else _read(rules.deny, "deny"),
        allowed=None if rules.allow is None else _read(rules.allow, "allow"),
        too_old=() if rules.max_age_days is None else _too_old(workspace, rules.max_age_days, now),
    )


def _read(path: str, rule: str) -> list[str]:
    """Return the ids in a file, sorted."""
    place = Path(os.path.expanduser(path))
    if not place.is_file():
        raise UserError(f"{rule} names {path!r}, which does not exist: check the path.")
    if place.suffix.lower() == ".parquet":
        return _typed(place, rule)
    text = handwritten.read_text(place, f"file of {rule}")
    is_table = place.suffix.lower() in (".csv", ".tsv")
    if place.suffix.lower() == ".json" or (not is_table and _is_array(text)):
        return _array(text, place, rule)
    ids = _one_a_line(text)
    if is_table:
        ids = _column(text, place, rule)
    elif ids[0] == schema.ITEM_ID:  # the heading of a column that was pasted
        ids = ids[1:]
    return sorted({item_id for item_id in ids if item_id})


def _one_a_line(text: str) -> list[str]:
    """Return the ids on the lines of a text, without remarks (`# …`, `id  # …`); those of a single
    line may be separated by commas. What is between double quotes is part of an id."""
    remarked = [line for line in map(_without_remark, text.split("\n")) if line]
    if len(remarked) == 1:
        remarked = re.findall(rf"{_QUOTED}\s*(?=,|$)|[^,]+", remarked[0])
    found = handwritten.lines("\n".join(remarked))
    return [item_id for item_id in found if item_id] or [""]


def _without_remark(line: str) -> str:
    quoted = re.match(_QUOTED, line)
    start = quoted.end() if quoted else 0
    return (line[:start] + re.sub(r"(?:^|\s+)#(?:\s.*|$)", "", line[start:])).strip()


def _is_array(text: str) -> bool:
    """Whether a text is an array of JSON, and not an id in brackets on each line."""
    try:
        return text.lstrip().startswith("[") and isinstance(strict_json.loads(text), list)
    except ValueError:
        return False


def _array(text: str, place: Path, rule: str) -> list[str]:
    """Return the ids of a JSON array."""
    try:
        found = strict_json.loads(text)
    except ValueError as error:
        raise UserError(f"{rule}: {str(place)!r} is not valid JSON: {error}") from error
    plain = isinstance(found, list) and all(
        isinstance(value, str | int) and not isinstance(value, bool) for value in found
    )
    if not plain:
        raise UserError(f'{rule}: {str(place)!r} must hold an array of ids, such as ["i1", "i2"].')
    return sorted({str(value).strip() for value in found} - {""})


def _typed(place: Path, rule: str) -> list[str]:
    """Return the ids of a Parquet file, which may be of any type."""
    try:
        rows = pl.read_parquet(place)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{rule}: {str(place)!r} cannot be read as Parquet: {reason:.200}."
        ) from error
    _require(rows.columns, place, rule)
    ids = parsing.identifier(schema.ITEM_ID, rows.schema[schema.ITEM_ID])  # as the log's are read
    found: list[str] = rows.select(ids).to_series().drop_nulls().unique().sort().to_list()
    return found


def _column(text: str, place: Path, rule: str) -> list[str]:
    """Return the ids of a table with a heading, with any separator between its fields."""
    first, _, rest = text.lstrip("\n").partition("\n")
    if first.lower().startswith("sep="):  # what Excel is told by, and leaves
        text, first = rest, rest.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)  # the comma where there is one column alone
    rows = csv.reader(io.StringIO(text.lstrip("\n")), delimiter=separator)
    try:
        names = [name.strip() for name in next(rows, [])]
        _require(names, place, rule)
        column = names.index(schema.ITEM_ID)
        return [row[column].strip() for row in rows if len(row) > column]
    except csv.Error as error:
        raise UserError(
            f"{rule}: {str(place)!r} cannot be read: line {rows.line_num}: {error}."
        ) from error


def _require(names: list[str], place: Path, rule: str) -> None:
    if schema.ITEM_ID not in names:
        raise UserError(
            f"{rule}: {str(place)!r} has no column {schema.ITEM_ID!r}."
            f"{did_you_mean(schema.ITEM_ID, names)} It has: {listed(names)}."
        )


def _too_old(workspace: Workspace, days: int, now: datetime.datetime) -> list[str]:
    """Return the items whose first interaction was more than a number of days before a midnight."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = pl.col(schema.TIMESTAMP).min()
    ids: list[str] = (
        tables.scan(workspace, schema.INTERACTIONS)
        .group_by(schema.ITEM_ID)
        .agg(first)
        .filter(pl.col(schema.TIMESTAMP) < midnight - datetime.timedelta(days=days))
        .select(pl.col(schema.ITEM_ID).sort())
        .collect()
        .to_series()
        .to_list()
    )
    return ids
