"""Unusual features of a log whose rows keep every rule, since the rules see only single rows."""

import dataclasses
import datetime
import re
import unicodedata
from collections.abc import Callable

import numpy as np
import polars as pl

from recmeta.errors import UserError
from recmeta.logs.checking.tally import Tally
from recmeta.logs.mapping import LogMapping
from recmeta.schema import ITEM_ID, USER_ID

FEW_ROWS = 10
"""With fewer rows, the times are not judged."""
OUTSIZED_SHARE = 0.1
OUTSIZED_ROWS = 100
OUTSIZED_TIMES = 20
"""A user with at least this share of the rows, this many rows and this many times the median user's
rows may stand for many: guests, or users whose id was lost."""
FEW_KNOWN = 0.05
"""If the share of the log's users or items with attributes is lower, the attributes may have other
ids."""
FEW_LEVELS = 3
PLACEHOLDERS = (-1.0, 0.0, -99.0, 99.0, -999.0, 999.0, 9999.0)
"""Numbers that often mean "not rated"."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """Figures of a log as a whole."""

    first_time: str | None = None
    """ISO 8601, UTC. None if there are no times."""
    last_time: str | None = None
    num_users: int
    num_items: int
    users_known: int | None = None
    """The number of the log's users with attributes. None if no attributes came with it."""
    items_known: int | None = None


def findings(
    mapping: LogMapping, tally: Tally, users: pl.DataFrame, items: pl.DataFrame
) -> tuple[Findings, tuple[str, ...]]:
    """Return the figures of a log, and sentences on what is perhaps not as intended.

    Args:
        tally: of all its rows.
        users, items: the attributes that came with the log.
    """
    rows_of = tally.rows_of_users()
    ids = {USER_ID: rows_of["value"], ITEM_ID: tally.items()}
    notes = [_old_times(mapping, tally), _outsized(rows_of), _placeholder(mapping, tally)]
    notes += [_lists(ids[ITEM_ID]), *(_forms(name, ids[name]) for name in ids)]
    notes += [_rounded(name, ids[name]) for name in ids]
    known: dict[str, int | None] = {USER_ID: None, ITEM_ID: None}
    for name, source, entities in (
        (USER_ID, mapping.users, users),
        (ITEM_ID, mapping.items, items),
    ):
        if source is not None and tally.num_rows:
            theirs = entities[name].unique(maintain_order=True)
            known[name] = int(ids[name].is_in(theirs.implode()).sum())
            notes.append(_unknown(name, ids[name], theirs, known[name] or 0))
    found = Findings(
        first_time=None if tally.first is None else tally.first.isoformat(),
        last_time=None if tally.last is None else tally.last.isoformat(),
        num_users=len(ids[USER_ID]),
        num_items=len(ids[ITEM_ID]),
        users_known=known[USER_ID],
        items_known=known[ITEM_ID],
    )
    return found, tuple(filter(None, notes))


def check_times(mapping: LogMapping, tally: Tally) -> None:
    """Raise UserError if most of the times are before `earliest_time`: another unit was meant.

    Args:
        tally: of the rows that keep every rule.
    """
    if mapping.time_col is None or tally.num_rows < FEW_ROWS:
        return
    if tally.num_old * 2 <= tally.num_rows:
        return
    raise UserError(
        f"{tally.num_old:,} of {tally.num_rows:,} times are before {mapping.earliest_time}: they "
        f"go from {_shown(tally.first)} to {_shown(tally.last)}, read with time_unit "
        f"{mapping.time_unit!r}. {_other_unit(mapping, tally)}If they are right, allow them "
        "with --earliest-time (earliest_time in Python and in a mapping), such as --earliest-time "
        f"{_year_before(tally.first)}. Nothing was published."
    )


def _year_before(time: object) -> str:
    year = time.year if isinstance(time, datetime.datetime) else 1
    return f"{year:04d}-01-01"


def _shown(time: object) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if isinstance(time, datetime.datetime) else "nothing"


def _other_unit(mapping: LogMapping, tally: Tally) -> str:
    """Return a sentence on the unit in which the times would be recent ones; it may be empty."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.get(mapping.time_unit)
    if per_second is None:
        return ""
    number = tally.median_time() * per_second / 10**6
    if 19_000_101 <= number <= 21_001_231:
        return (
            "Are they dates such as 20240131? Then use --time-unit %Y%m%d (time_unit in Python). "
        )
    for unit, seconds in (("d", 86_400.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if 631_152_000 <= number * seconds <= 2_524_608_000:  # the years 1990 to 2050
            meant = {"d": "days since 1970", "s": "seconds"}.get(unit, unit)
            return f"Are they {meant}? Then use --time-unit {unit} (time_unit in Python). "
    return ""


def _old_times(mapping: LogMapping, tally: Tally) -> str:
    if mapping.time_col is None or not tally.num_old:
        return ""
    places = ", ".join(f"{file}:{line}" for file, line in tally.old_places)
    return (
        f"{tally.num_old:,} of {tally.num_rows:,} times are before {mapping.earliest_time}, the "
        f"first {_shown(tally.first)} ({places}): perhaps a 0 stands for a missing time."
    )


def _outsized(rows_of: pl.DataFrame) -> str:
    if not rows_of.height:
        return ""
    most = rows_of.select("value", "len").row(int(rows_of["len"].arg_max() or 0))
    counts = rows_of["len"].to_numpy()
    total, median = int(counts.sum()), float(np.median(counts))
    if most[1] < max(OUTSIZED_ROWS, OUTSIZED_SHARE * total, OUTSIZED_TIMES * median):
        return ""
    return (
        f"The user {most[0]!r} has {most[1]:,} of {total:,} rows ({most[1] / total:.0%}): if this "
        f"id stands for guests or for nobody, use --null-values {most[0]!r}."
    )


def _placeholder(mapping: LogMapping, tally: Tally) -> str:
    """Return a sentence on a value that stands apart from the others, as -1 and 99 do."""
    if not mapping.has_values or mapping.scale or tally.num_levels <= FEW_LEVELS:
        return ""
    low, high = tally.lowest(), tally.highest()
    # The suspect, how many have it, the value next to it, and the lowest and highest of the others.
    below = (*low[0], low[1][0], low[1][0], high[1][0])
    above = (*high[1], high[0][0], low[0][0], high[0][0])
    for suspect, count, nearest, lowest, highest in (below, above):
        gap = abs(nearest - suspect)
        apart = gap > highest - lowest or (suspect < 0 <= lowest)
        if suspect in PLACEHOLDERS and apart:
            return (
                f"{count:,} of {tally.num_ratings:,} values are {suspect:g}, while the others go "
                f"from {lowest:g} to {highest:g}: if {suspect:g} means that nothing was rated, use "
                f"--implicit-value {suspect:g} (met, but not rated) or --scale "
                f"{lowest:g}:{highest:g} (leave these rows out)."
            )
    return ""


def _lists(ids: pl.Series) -> str:
    """Return a sentence on ids that look like several ids; it may be empty."""
    if not len(ids):
        return ""
    lists = ids.filter(ids.str.contains(r"^\[.*\]$"))
    if len(lists) > len(ids) / 2:
        return (
            f"Items such as {_cut(lists[0])} look like lists, but are neither JSON nor Python "
            'lists: write them as ["a", "b"], and each element becomes an item.'
        )
    parts = r"^\S*\d\S*(?:[ ,;|]\s*\S*\d\S*)+$"
    if ids.str.contains(parts).mean() < 0.5:  # type: ignore[operator]
        return ""
    example = ids.filter(ids.str.contains(parts))[0]
    return f"Cells such as {_cut(example)} look like several items: --item-separator splits them."


def _rounded(name: str, ids: pl.Series) -> str:
    """Return a sentence on ids whose last digits a spreadsheet has dropped; it may be
    empty."""
    rounded = ids.filter(ids.str.contains(r"^\d(?:[.,]\d+)?[eE]\+\d+$"))
    if not len(rounded):
        return ""
    return (
        f"{len(rounded):,} of the {_NAMES[name]} have ids such as {_cut(rounded[0])}: a "
        "spreadsheet has rounded them, so different ids may have become the same. Export the "
        "column as text."
    )


def _forms(name: str, ids: pl.Series) -> str:
    """Return a sentence on ids that are the same except for their Unicode form; it may be empty."""
    special = ids.filter(ids.str.contains(r"[^\x00-\x7f]"))
    composed = [unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)) for text in special]
    plain = ids.filter(ids.is_in(pl.Series(composed, dtype=pl.String).implode()))
    groups: dict[str, set[str]] = {text: {text} for text in plain}
    for text, form in zip(special, composed, strict=True):
        groups.setdefault(form, set()).add(text)
    alike = [sorted(group) for group in groups.values() if len(group) > 1]
    if not alike:
        return ""
    shown = " and ".join(repr(text.encode("unicode_escape").decode()) for text in alike[0][:2])
    number, what = len(alike), _NAMES[name]
    said = f"{number:,} {what} are" if number > 1 else f"One of the {what} is"
    return (
        f"{said} written in several forms that look the same, such as {shown}, and count as "
        "different ones."
    )


_INVISIBLE = re.compile("[\u200b-\u200d\u2060\ufeff]")
_NAMES = {USER_ID: "users", ITEM_ID: "items"}


def _unknown(name: str, ids: pl.Series, theirs: pl.Series, known: int) -> str:
    if known > FEW_KNOWN * len(ids):
        return ""
    what = _NAMES[name]
    note = f"Only {known:,} of the {len(ids):,} {what} of the log have attributes"
    if len(theirs):
        note += f": the log has {_cut(ids[0])}, the file of {what} {_cut(theirs[0])}"
    for difference, alike in _LIKENESSES.items():
        mine, other = alike(ids), alike(theirs)
        if mine.is_in(other.drop_nulls().implode()).sum() > max(FEW_KNOWN * len(ids), known):
            return f"{note}. Without {difference} they would match: write both the same way."
    return f"{note}. Is this the right column of ids?"


_LIKENESSES: dict[str, Callable[[pl.Series], pl.Series]] = {
    "leading zeros": lambda ids: ids.str.replace(r"^0+(\d)", "${1}"),
    "differences of case": lambda ids: ids.str.to_lowercase(),
    "what stands before the digits": lambda ids: ids.str.extract(r"^\D*?0*(\d+)$"),
    "differences of case, spaces and signs": lambda ids: ids.str.to_lowercase().str.replace_all(
        r"[\W_]+", ""
    ),
}


def _cut(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
