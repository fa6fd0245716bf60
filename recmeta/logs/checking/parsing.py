"""Expressions that turn the columns of a log, text or typed, into ids, times, values and kinds.

All of them turn what cannot be parsed into null and never fail; `contracts` says which rule a null
breaks. Making one raises UserError if the format of times is invalid.
"""

import re
from collections.abc import Callable, Collection

import polars as pl

from recmeta.errors import UserError

MICROSECONDS = pl.Datetime("us", "UTC")
SECONDS_A_DAY = 86_400
_TRUTHS = {"true": 1.0, "false": 0.0}
_EXACT = 2.0**53
"""From this number on, a float does not determine a whole number."""
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LATEST_YEAR = 9999
# The years 1 to 9999: what Python's datetime, pyarrow and Delta agree on.
EARLIEST_US = -62_135_596_800_000_000
LATEST_US = 253_402_300_799_999_999


def text(column: str, dtype: pl.DataType, null_values: Collection[str] = ()) -> pl.Expr:
    """Return a column as stripped strings; null if it is empty, NaN or a word for null.

    Numbers are spelled as they print; lists, structures and maps are spelled as JSON.
    """
    return as_text(pl.col(column), dtype, null_values)


def as_text(expression: pl.Expr, dtype: pl.DataType, null_values: Collection[str] = ()) -> pl.Expr:
    """Return for an expression what `text` returns for a column."""
    if dtype.is_integer() and not any(map(str.isdecimal, null_values)):
        return expression.cast(pl.String)
    if dtype.is_float():
        expression = expression.fill_nan(None)
    if isinstance(dtype, pl.Duration):
        expression = expression.dt.to_string("iso")
    if dtype.is_nested():
        as_json = pl.struct(expression.alias("v")).struct.json_encode().str.slice(5).str.head(-1)
        expression = pl.when(expression.is_not_null()).then(as_json)
    stripped = expression.cast(pl.String).str.strip_chars()
    given = stripped != ""
    if null_values:
        given &= ~stripped.is_in(list(null_values))
    return pl.when(given).then(stripped)


def identifier(column: str, dtype: pl.DataType, null_values: Collection[str] = ()) -> pl.Expr:
    """Return a column of ids as `text` does, whole numbers without a fraction: 10.0 is 10.

    A frame with a missing id keeps and writes its whole numbers as floats, unlike the catalogue
    that comes with it.
    """
    if dtype.is_float():
        number = pl.col(column)
        whole = number.cast(pl.Int64, strict=False)
        spelled = text(column, dtype, null_values)
        is_whole = (whole == number) & (number.abs() < _EXACT)
        return (
            pl.when(is_whole & spelled.is_not_null()).then(whole.cast(pl.String)).otherwise(spelled)
        )
    found = text(column, dtype, null_values)
    if isinstance(dtype, pl.String | pl.Decimal):
        return found.map_batches(_without_fraction, return_dtype=pl.String, is_elementwise=True)
    return found


def number(
    column: str, dtype: pl.DataType, decimal: str = "", null_values: Collection[str] = ()
) -> pl.Expr:
    """Return a column as float64; null if it is not a number. NaN and infinity are numbers, and
    true and false are 1 and 0.

    Args:
        decimal: as `Source.decimal`.
    """
    if dtype.is_numeric() or dtype == pl.Boolean:
        found = pl.col(column).cast(pl.Float64)
        words = [value for value in map(_as_float, null_values) if value is not None]
        return pl.when(~found.is_in(words)).then(found) if words else found
    words_of_text = [word for word in null_values if word.lower() != "nan"]

    def parse(values: pl.Series) -> pl.Series:
        return _numbers(values, decimal)

    found = text(column, dtype, words_of_text)
    return found.map_batches(parse, return_dtype=pl.Float64, is_elementwise=True)


def _as_float(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if value == value else None


def _without_fraction(values: pl.Series) -> pl.Series:
    round_ones = values.filter(values.str.ends_with("0"))
    if not round_ones.str.contains(".0", literal=True).any():
        return values
    return values.str.replace(r"^(-?\d+)\.0+$", "${1}")


def _numbers(values: pl.Series, decimal: str) -> pl.Series:
    if decimal:
        values = values.str.replace_all("[\u2212]", "-")
        groups = r"[.\s\u00a0\u202f'’_]" if decimal == "," else r"[,\s\u00a0\u202f'’_]"
        point = re.escape(decimal)
        grouped = values.str.contains(rf"^[+-]?\d{{1,3}}(?:{groups}\d{{3}})+(?:{point}\d*)?$")
        plain = values.str.contains(rf"^[+-]?(?:\d+(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?$")
        spelled = values.str.replace_all(groups, "").zip_with(grouped.fill_null(False), values)
        if decimal == ",":
            spelled = spelled.str.replace(",", ".", literal=True)
        values = spelled.set(~(grouped | plain).fill_null(True), None)
    return _retried(
        values,
        lambda given: given.cast(pl.Float64, strict=False),
        lambda given: given.str.to_lowercase().replace_strict(
            _TRUTHS, default=None, return_dtype=pl.Float64
        ),
    )


def _retried(
    values: pl.Series,
    parse: Callable[[pl.Series], pl.Series],
    parse_others: Callable[[pl.Series], pl.Series],
) -> pl.Series:
    """Return values parsed one way and, for those that fail, the other, slower way."""
    found = parse(values)
    missed = found.is_null() & values.is_not_null()
    if not missed.any():
        return found
    return found.scatter(missed.arg_true(), parse_others(values.filter(missed)))


def time(column: str, dtype: pl.DataType, unit: str) -> pl.Expr:
    """Return a column as UTC times in microseconds; null if it is not a time.

    Times after the year 9999 become its last microsecond, which the rules refuse.

    Args:
        unit: as `LogMapping.time_unit`. It does not matter if `dtype` is already a time.
    """
    if isinstance(dtype, pl.Datetime):
        naive = dtype.time_zone is None
        cast = pl.col(column).cast(pl.Datetime("us", dtype.time_zone))
        return cast.dt.replace_time_zone("UTC") if naive else cast.dt.convert_time_zone("UTC")
    if dtype == pl.Date:
        return pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if unit == "iso":
        value = text(column, dtype)
        return value.map_batches(_iso_series, return_dtype=MICROSECONDS, is_elementwise=True)
    if unit == "d":
        return _days_since_1970(column, dtype)
    if unit in _PER_SECOND:
        return _since_1970(column, dtype, unit)
    return _strptime(identifier(column, dtype), unit)


def _days_since_1970(column: str, dtype: pl.DataType) -> pl.Expr:
    micros = number(column, dtype) * (SECONDS_A_DAY * 1e6)
    inside = pl.when(micros.is_finite()).then(micros.clip(EARLIEST_US - 1024.0, LATEST_US + 1024.0))
    whole = inside.round().cast(pl.Int64).clip(upper_bound=LATEST_US)
    return pl.when(whole >= EARLIEST_US).then(whole).cast(MICROSECONDS)


def _since_1970(column: str, dtype: pl.DataType, unit: str) -> pl.Expr:
    per_second = _PER_SECOND[unit]
    if not dtype.is_numeric() and dtype != pl.Boolean:
        texts = text(column, dtype)
        return texts.map_batches(
            lambda values: _since_1970_in_texts(values, unit),
            return_dtype=MICROSECONDS,
            is_elementwise=True,
        )
    whole = pl.col(column).cast(pl.Int64, strict=False) if dtype.is_integer() else pl.lit(None)
    return _microseconds(whole, number(column, dtype), per_second)


def _since_1970_in_texts(values: pl.Series, unit: str) -> pl.Series:
    """Parse whole numbers, and the rest (1.5, 1e9) as floats."""
    per_second = _PER_SECOND[unit]

    def whole(given: pl.Series) -> pl.Series:
        numbers = pl.col("t").cast(pl.Int64, strict=False)
        inside = pl.when(numbers.is_between(*_exact_range(per_second))).then(numbers)
        exact = _microseconds(inside, pl.lit(None, dtype=pl.Float64), per_second)
        return given.to_frame("t").select(exact).to_series()

    def others(given: pl.Series) -> pl.Series:
        number = pl.col("t").cast(pl.Float64, strict=False)
        return (
            given.to_frame("t").select(_microseconds(pl.lit(None), number, per_second)).to_series()
        )

    return _retried(values, whole, others)


def _exact_range(per_second: int) -> tuple[int, int]:
    """Return the integers that multiply into microseconds without overflow."""
    low, high = EARLIEST_US * per_second // 10**6, LATEST_US * per_second // 10**6
    return max(low, -(2**63)), min(high, 2**63 - 1)


def _microseconds(whole: pl.Expr, fraction: pl.Expr, per_second: int) -> pl.Expr:
    # Integers exactly, as far as they multiply without overflow; the rest (1.5, 1e9) as floats.
    whole = whole.cast(pl.Int64)
    low, high = _exact_range(per_second)
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


def _iso_series(values: pl.Series) -> pl.Series:
    """Parse ISO 8601, and what databases and languages write in its place: ` UTC` or `[UTC]` after
    the time, a comma before the fraction, slashes or nothing between the parts, hour 24."""
    found = _retried(values, _as_most_write_it, _other_iso)
    return found if (found.dt.year() >= 1).all() else found.set(found.dt.year() < 1, None)


def _as_most_write_it(values: pl.Series) -> pl.Series:
    """Parse only the form of the first value, which is much faster, if it is a usual one."""
    first = next(iter(values.drop_nulls().head(1)), "").strip()
    for form, format_ in _USUAL.items():
        if re.fullmatch(form, first):
            if format_.endswith("Z"):
                values = values.str.strip_suffix("Z").zip_with(values.str.ends_with("Z"), _nulls())
            parsed = values.str.to_datetime(format_.removesuffix("Z"), time_unit="us", strict=False)
            return parsed.dt.replace_time_zone("UTC")
    return pl.Series([None] * len(values), dtype=MICROSECONDS)


def _nulls() -> pl.Series:
    return pl.Series([None], dtype=pl.String)


_USUAL = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d": "%Y-%m-%d %H:%M:%S",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d": "%Y-%m-%dT%H:%M:%S",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "%Y-%m-%dT%H:%M:%SZ",
}


def _other_iso(values: pl.Series) -> pl.Series:
    return _retried(values, lambda given: _evaluated(given, _iso), _iso_variants)


def _evaluated(values: pl.Series, expression: Callable[[pl.Expr], pl.Expr]) -> pl.Series:
    return values.to_frame("t").select(expression(pl.col("t")).alias("t")).to_series()


def _iso_variants(values: pl.Series) -> pl.Series:
    spelled = values.str.replace(r"\s*(?:UTC|GMT|Etc/UTC)$", "Z")
    spelled = spelled.str.replace(r"([zZ]|[+-]\d{2}:?\d{2})\[[A-Za-z_/+-]+\]$", "${1}")
    spelled = spelled.str.replace(r"(:\d{2}),(\d+)", "${1}.${2}")
    spelled = spelled.str.replace(r"^(\d{4})/(\d{1,2})/(\d{1,2})", "${1}-${2}-${3}")
    spelled = spelled.str.replace(r"^(\d{4})-(\d)-", "${1}-0${2}-")
    spelled = spelled.str.replace(r"^(\d{4}-\d{2})-(\d)($|[T ])", "${1}-0${2}${3}")
    spelled = spelled.str.replace(r"^(\d{4})(\d{2})(\d{2})($|[T ])", "${1}-${2}-${3}${4}")
    spelled = spelled.str.replace(r"([T ])(\d{2})(\d{2})(\d{2})", "${1}${2}:${3}:${4}")
    next_day = spelled.str.contains(r"^[^T ]+[T ]+24:00(?::00(?:\.0+)?)?\s*(?:$|[zZ+-])")
    midnight = spelled.str.replace(r"([T ])24:", "${1}00:")
    found = _evaluated(midnight.zip_with(next_day.fill_null(False), spelled), _iso)
    found = found.dt.offset_by("1d").zip_with(next_day.fill_null(False), found)
    return found.set(found.dt.year() > LATEST_YEAR, None)


def _iso(value: pl.Expr) -> pl.Expr:
    """Parse a date, or a date and time, with or without fractions and offset."""
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
        raise UserError(
            f"time_unit is {unit!r}, which is not a format of times: {reason}"
        ) from error
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
