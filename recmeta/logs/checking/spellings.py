"""How times and numbers are written, inferred from some of them."""

import datetime

import polars as pl

from recmeta.logs.checking import parsing

SHARE = 0.9
"""The share of the values that must be readable in one way for it to be chosen."""
EARLIEST = datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC)
LATEST = datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC)
"""The range of plausible times of logs. Days as spreadsheets count them, read as days since 1970,
are later."""
UNITS = ("iso", "%Y%m%d", "s", "ms", "us", "ns", "d")
_DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M:%S %p", " %I:%M %p")
FORMATS = (
    *(f"{date}{time}" for date in _DATES for time in _TIMES),
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%m %d, %Y",
    "%Y%m%d%H%M%S",
    "%Y%m%d %H:%M:%S",
)


def unit_of(values: pl.Series) -> str | None:
    """Return the `time_unit` that reads values as times of logs; None if none does.

    If there are several, the first one that reads most values is taken.
    """
    given = _given(values)
    if not len(given):
        return None
    if given.dtype.is_temporal():
        return "s"  # which does not matter
    best, found = SHARE * len(given), None
    for unit in (*UNITS, *(FORMATS if given.dtype == pl.String else ())):
        frame = given.to_frame("t")
        times = frame.select(parsing.time("t", given.dtype, unit)).to_series()
        count = int(times.is_between(EARLIEST, LATEST).sum())
        if count > best or (count == best and found is None):
            best, found = count, unit
    return found


def decimal_of(values: pl.Series) -> str | None:
    """Return the `decimal` that reads values as numbers; None if none does."""
    given = _given(values)
    if not len(given):
        return None
    for decimal in ("", ",", "."):
        read = given.to_frame("n").select(parsing.number("n", given.dtype, decimal)).to_series()
        if read.is_not_null().sum() >= SHARE * len(given):
            return decimal
    return None


def _given(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = values.str.strip_chars().replace("", None)
    return values.drop_nulls()
