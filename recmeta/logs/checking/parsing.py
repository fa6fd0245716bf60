"""Expressions that turn the columns of a log, text or typed, into ids, times, values and kinds.

All of them turn what cannot be parsed into null and never fail; `contracts` says which rule a null
breaks. To make one raises UserError for a format of times that is none.
"""

import re

import polars as pl

from recmeta.errors import UserError

MICROSECONDS = pl.Datetime("us", "UTC")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# The years 1 to 9999: what Python's datetime, pyarrow and Delta agree on.
EARLIEST_US = -62_135_596_800_000_000
LATEST_US = 253_402_300_799_999_999


def text(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column as stripped strings, null where it is empty or NaN.

    Numbers are spelled as they print, so that ids agree between a frame's Parquet and CSV files.
    """
    expression = pl.col(column)
    if dtype.is_float():
        expression = expression.fill_nan(None)
    if isinstance(dtype, (pl.List, pl.Array, pl.Struct)):
        expression = pl.struct(column).struct.json_encode().struct.field(column)
    stripped = expression.cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def number(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column as float64; null where it is not a number. NaN and infinity are numbers."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return pl.col(column).cast(pl.Float64)
    return text(column, dtype).cast(pl.Float64, strict=False)


def time(column: str, dtype: pl.DataType, unit: str) -> pl.Expr:
    """Return a column as UTC times in microseconds; null where it is not a time.

    Times behind the year 9999 become its last microsecond, which no rule lets pass.

    Args:
        unit: as `LogMapping.time_unit`. Does not matter where `dtype` is a time already.
    """
    if isinstance(dtype, pl.Datetime):
        naive = dtype.time_zone is None
        cast = pl.col(column).cast(pl.Datetime("us", dtype.time_zone))
        return cast.dt.replace_time_zone("UTC") if naive else cast.dt.convert_time_zone("UTC")
    if dtype == pl.Date:
        return pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if unit == "iso":
        return _iso(text(column, dtype))
    if unit in _PER_SECOND:
        return _since_1970(column, dtype, unit)
    return _strptime(text(column, dtype), unit)


def _since_1970(column: str, dtype: pl.DataType, unit: str) -> pl.Expr:
    per_second = _PER_SECOND[unit]
    if dtype.is_integer():
        whole = pl.col(column).cast(pl.Int64, strict=False)
    else:
        whole = text(column, dtype).cast(pl.Int64, strict=False)
    fraction = number(column, dtype)
    # Integers exactly, as far as they multiply without overflow; the rest (1.5, 1e9) as floats.
    low, high = EARLIEST_US * per_second // 10**6, LATEST_US * per_second // 10**6
    low, high = max(low, -(2**63)), min(high, 2**63 - 1)
    exact = whole * (10**6 // per_second) if per_second <= 10**6 else whole // (per_second // 10**6)
    approximate = fraction * (10**6 / per_second)
    rounded = pl.when(approximate.is_finite()).then(
        approximate.clip(EARLIEST_US - 1024.0, LATEST_US + 1024.0).round()
    )
    microseconds = (
        pl.when(whole.is_between(low, high)).then(exact).otherwise(rounded.cast(pl.Int64))
    )
    microseconds = microseconds.clip(upper_bound=LATEST_US)
    return pl.when(microseconds >= EARLIEST_US).then(microseconds).cast(MICROSECONDS)


def _iso(value: pl.Expr) -> pl.Expr:
    """Parse ISO 8601: a date, or a date and time, with or without fractions and offset."""
    value = value.str.replace(r"^(\d{4}-\d{2}-\d{2})[ tT]+(\d)", "${1}T${2}")
    value = value.str.replace(r"\s*[zZ]$", "+00:00")
    value = value.str.replace(r"(T.*[+-]\d{2})$", "${1}:00")
    value = value.str.replace(r"(T.*[+-]\d{2})(\d{2})$", "${1}:${2}")
    value = value.str.replace(r"^([^T]*T\d{2}:\d{2})($|[+-])", "${1}:00${2}")
    zoned = value.str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False
    )
    local = value.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    date = value.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    return pl.coalesce(zoned, pl.coalesce(local, date).dt.replace_time_zone("UTC"))


def _strptime(value: pl.Expr, unit: str) -> pl.Expr:
    # Python's spelling of a fraction: behind a point, or six digits.
    format_ = unit.replace(".%f", "%.f")
    format_ = re.sub("%.", lambda part: "%6f" if part[0] == "%f" else part[0], format_)
    try:
        pl.select(_by_format(pl.lit("a text"), format_))
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"time_unit is {unit!r}, which is no format of times: {reason}") from error
    return _by_format(value, format_)


def _by_format(value: pl.Expr, format_: str) -> pl.Expr:
    if "%z" in format_ or "%:z" in format_:
        return value.str.to_datetime(format_, time_unit="us", time_zone="UTC", strict=False)
    has_time = any(part in format_ for part in ("%H", "%I", "%T", "%X", "%R", "%c", "%s", "%r"))
    if has_time:
        parsed = value.str.to_datetime(format_, time_unit="us", strict=False)
    else:
        parsed = value.str.to_date(format_, strict=False).cast(pl.Datetime("us"))
    return parsed.dt.replace_time_zone("UTC")
