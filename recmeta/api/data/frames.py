"""Frames in and out: pandas, Polars or Arrow. Results are returned in the library of the input.

Internally, all rows are in Polars. pandas and others are not imported unless the caller uses them.
"""

import sys
from typing import Any, Literal, TypeVar

import polars as pl
import pyarrow as pa

from recmeta.errors import UserError, did_you_mean, listed, shown
from recmeta.logs.mapping import TIME_UNITS
from recmeta.tasks.pandas_columns import of_pandas, plain_column

FrameT = TypeVar("FrameT")
"""A pandas or Polars DataFrame, or a pyarrow Table, of the library in which a class returns
frames."""
RowsT = TypeVar("RowsT")
"""The same, of the library of a method's argument."""
Kind = Literal["pandas", "polars", "arrow"]
CLOSE = 0.8
"""The similarity, from 0 to 1, from which a column is taken for a misspelling of a wanted name."""
_HOW_TO = {
    "LazyFrame": " Collect it first.",
    "RecordBatch": " pyarrow.Table.from_batches([…]) makes one of it.",
    "RecordBatchReader": " Its read_all() makes one of it.",
    "DuckDBPyRelation": " Its pl() makes one of it.",
    "ndarray": " polars.DataFrame(…, schema=[…]) makes one of it.",
    **dict.fromkeys(("dict", "list"), " polars.DataFrame(…) makes one of it."),
}
"""The hints of how to make a frame from other types."""
_LATEST = {"s": 1e11, "ms": 1e14, "us": 1e17}
"""Numbers from these on are no times of the unit, because they would be after the year 5000."""


def kind_of(frame: Any, what: str) -> Kind:
    """Return the library of a frame.

    Args:
        what: a name for the frame's content, for the message.

    Raises:
        UserError: if it is not a frame of one of these libraries.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return "pandas"
    if isinstance(frame, pl.DataFrame):
        return "polars"
    if isinstance(frame, pa.Table):
        return "arrow"
    hint = next((how for kind, how in _HOW_TO.items() if type(frame).__name__ == kind), "")
    raise UserError(
        f"{what} is a {type(frame).__name__}; it must be a pandas or Polars DataFrame or a pyarrow "
        f"Table.{hint}"
    )


def to_polars(frame: Any, what: str) -> pl.DataFrame:
    """Return a frame as Polars, with categories as their values and a named index of pandas as
    columns.

    Args:
        what: a name for the frame's content, for messages.

    Raises:
        UserError: if it is no frame, two columns have the same name, or a column has values of
            several types that cannot be converted to text.
    """
    kind = kind_of(frame, what)
    if isinstance(frame, pl.DataFrame):
        return _plain(frame, what)
    names = list(frame.columns) if kind == "pandas" else frame.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"{what} has {names.count(twice)} columns named {shown(twice)}: keep one of them."
        )
    if kind == "pandas":
        indexed = [name for name in frame.index.names if name is not None and name not in names]
        if indexed:
            frame = frame.reset_index(level=indexed)
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
        columns = {name: of_pandas(frame[name], name, what) for name in frame.columns}
    else:
        columns = dict(zip(names, frame.columns, strict=True))
    plain = {name: plain_column(column, name, what) for name, column in columns.items()}
    if not plain:
        return pl.DataFrame()
    try:
        found = pl.DataFrame(pl.from_arrow(pa.table(plain)))
    except (pa.ArrowException, pl.exceptions.PolarsError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{what} has a column that cannot be read: {reason:.200}.") from error
    return _plain(found, what)


def _plain(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """Return a frame with plain types, as logs have them."""
    for name, dtype in frame.schema.items():
        if dtype in (pl.Object, pl.Unknown) or isinstance(dtype, pl.BaseExtension):
            raise UserError(
                f"the column {shown(name)} of {what} is of the type {dtype}, which no log has: "
                "turn it into text, numbers or times, or drop it."
            )
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def out(rows: pl.DataFrame | pa.Table, kind: Kind) -> Any:
    """Return rows as a frame of a library.

    Raises:
        UserError: if pandas is needed and not installed.
    """
    if kind == "polars":
        return rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(pl.from_arrow(rows))
    table = (
        rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        if isinstance(rows, pl.DataFrame)
        else rows
    )
    if kind == "arrow":
        return table
    try:
        return table.to_pandas()
    except ModuleNotFoundError as error:
        raise UserError(
            "the model was fitted on pandas frames, and pandas is not installed: pip install "
            "pandas."
        ) from error


def with_ids(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """Return a frame whose ids are whole numbers again if pandas turned them into floats, as it
    does if one is missing."""
    whole = [
        name
        for name in columns
        if frame.schema[name].is_float() and _are_whole(frame[name].drop_nans().drop_nulls())
    ]
    return frame.with_columns(pl.col(name).fill_nan(None).cast(pl.Int64) for name in whole)


def _are_whole(numbers: pl.Series) -> bool:
    return bool(((numbers == numbers.floor()) & (numbers.abs() < 2**53)).all())


def time_unit(times: pl.Series, unit: str | None) -> str:
    """Return the unit or format of times: the given one, or the one recognised from the times.

    Text is ISO 8601 unless it is numeric. Numbers are seconds since 1970, or milliseconds,
    microseconds or nanoseconds if they would otherwise be after the year 5000.
    """
    if not (times.dtype.is_numeric() or times.dtype in (pl.String, pl.Date, pl.Datetime, pl.Null)):
        raise UserError(
            f"the column {shown(times.name)} holds {times.dtype}, which are not times: "
            "give dates, moments, numbers or text."
        )
    if unit is not None:
        return unit
    numbers = times
    if times.dtype == pl.String:
        numbers = times.str.strip_chars().cast(pl.Float64, strict=False)
        if times.len() == times.null_count() or numbers.null_count() > times.null_count():
            return "iso"
    if not numbers.dtype.is_numeric():
        return "s"  # typed times need no unit
    greatest = numbers.cast(pl.Float64).drop_nans().drop_nulls().quantile(0.5) or 0.0
    return next((name for name, latest in _LATEST.items() if abs(greatest) < latest), TIME_UNITS[3])


def missing_column(
    what: str, name: str, columns: list[str], how: str = "", *, spare: list[str] | None = None
) -> UserError:
    """Return the error of a frame without a column, with the column that is perhaps meant.

    Args:
        columns: the columns of the frame.
        how: a further sentence.
        spare: the columns that may be meant, or None for any.
    """
    meant = did_you_mean(name, columns if spare is None else spare)
    return UserError(f"{what} has no column {shown(name)}.{meant}{how} It has: {listed(columns)}.")
