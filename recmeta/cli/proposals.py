"""How a log may be read, for those who have said nothing of it yet."""

import dataclasses
import datetime
import shlex
from typing import Any

from recmeta.cli.mappings import LISTS, MAPPING_ENDING, check_is_there, given_options
from recmeta.cli.options import AttributeOptions, LogOptions
from recmeta.config import parse
from recmeta.errors import UserError
from recmeta.logs.fetching.datasets import DATASETS
from recmeta.logs.mapping import LogMapping, Source
from recmeta.logs.proposal import propose, shown_rows
from recmeta.logs.reading.columns import column_names
from recmeta.markup import inline
from recmeta.reporting.markdown import table

_COLUMNS = ("user_col", "item_col", "time_col", "event_col", "value_col")
_SAID = (*_COLUMNS, "layout")
"""Options of which any says how the log is read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposed:
    """How a log may be read, as a person sees it."""

    options: dict[str, Any]
    columns: list[str]
    rows: list[dict[str, Any]]
    """The first rows, as they would be read."""
    command: str
    lines: list[str]
    """What each role is, as a Markdown list."""
    notes: tuple[str, ...]
    """As `recmeta.logs.proposal.Proposal.notes`."""

    @property
    def table(self) -> str:
        """The rows as Markdown."""
        return table_of(self.rows)


def proposal_for(
    source: str | None, options: LogOptions, attributes: AttributeOptions, *, always: bool
) -> Proposed | None:
    """Return how to read a log; None where that is said, or the log has the columns of the tables.

    Args:
        always: also where it has these columns.

    Raises:
        UserError: where nothing is there, or it cannot be read.
    """
    given = given_options(options)
    is_said = source is None or source in DATASETS or source.endswith(MAPPING_ENDING)
    if is_said or options.mapping is not None or any(name in given for name in _SAID):
        return None
    assert source is not None
    known = {n: v for n, v in given.items() if n in Source.__dataclass_fields__}
    check_is_there(source)
    log = parse(Source, {"path": source} | known)
    if not always and _has_columns_of_tables(log):
        return None
    proposed = propose(log)
    if proposed is None:
        return None  # the usual way says what the file has
    found = proposed.options | {n: v for n, v in given.items() if n not in proposed.options}
    mapping = parse(LogMapping, {"path": source} | found)
    typed = dict(found)
    for name in LISTS.intersection(typed):
        typed[name] = ",".join(typed[name])
    files = {n: v for n, v in vars(attributes).items() if v is not None}
    words = ["recmeta", "ingest", source]
    for name, value in (typed | files).items():
        said = f"{value:g}" if isinstance(value, float) else str(value).replace("\t", "\\t")
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
            continue
        words += [f"{option}={said}"] if said.startswith("-") else [option, said]
    roles = {name: getattr(mapping, name) for name in _COLUMNS}
    lines = [f"- {name.removesuffix('_col')}: {inline(c)}" for name, c in roles.items() if c]
    return Proposed(
        options=found,
        columns=proposed.columns,
        rows=rows_of(mapping),
        command=shlex.join(words),
        lines=lines,
        notes=proposed.notes,
    )


def rows_of(mapping: LogMapping) -> list[dict[str, Any]]:
    """Return the first rows of a log as they would be read, JSON-ready."""
    rows = shown_rows(mapping, datetime.datetime.now(datetime.UTC))
    return [
        {n: v.isoformat() if isinstance(v, datetime.datetime) else v for n, v in row.items()}
        for row in rows.iter_rows(named=True)
    ]


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return rows as Markdown."""
    shown = [[inline(_cell(value)) for value in row.values()] for row in rows]
    header = ["user_id", "item_id", "timestamp", "event", "value", "broken rules"]
    return table(header, shown)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _has_columns_of_tables(log: Source) -> bool:
    try:
        names = column_names(log)
    except UserError:
        return False
    return {"user_id", "item_id"} <= set(names)
