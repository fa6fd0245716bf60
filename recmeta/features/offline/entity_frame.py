"""Entity rows, a pandas or Polars frame prepared for an as-of join."""

from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

from recmeta.errors import UserError

EVENT_TIMESTAMP = "event_timestamp"


def entity_frame(entity_df: Any) -> tuple[pl.DataFrame, str]:
    """Return the entity rows, their times in UTC, and the name of the column with the times.

    The column is `event_timestamp` or, without it, the only one with times. A time without a zone
    is in UTC; times as text and columns with several zones are understood.

    Args:
        entity_df: a pandas or a Polars frame, which is not changed.

    Raises:
        UserError: for SQL or anything else, for no or several columns of times, or for times that
            cannot be read.
    """
    if isinstance(entity_df, pl.DataFrame):
        frame = entity_df
        times = [name for name, dtype in frame.schema.items() if dtype.is_temporal()]
    elif isinstance(entity_df, pd.DataFrame):
        repeated = entity_df.columns[entity_df.columns.duplicated()]
        if len(repeated):
            raise UserError(f"entity_df has the column {repeated[0]!r} more than once.")
        times = list(entity_df.select_dtypes(include=["datetime", "datetimetz"]).columns)
    else:
        raise UserError(
            f"entity_df is of type {type(entity_df).__name__}; this offline store reads files and "
            "takes no SQL: give a pandas or a Polars frame."
        )
    time = EVENT_TIMESTAMP if EVENT_TIMESTAMP in entity_df.columns else _only(times)
    if isinstance(entity_df, pd.DataFrame):
        frame = _from_pandas(entity_df, time)
    return frame.with_columns(_in_utc(frame, time)), time


def _only(times: list[str]) -> str:
    if len(times) == 1:
        return times[0]
    raise UserError(
        f"entity_df has {len(times)} columns of times ({', '.join(map(str, times)) or 'none'}); "
        f"name the one that counts {EVENT_TIMESTAMP!r}."
    )


def _from_pandas(entity_df: pd.DataFrame, time: str) -> pl.DataFrame:
    values = entity_df[time]
    if not pd.api.types.is_datetime64_any_dtype(values):  # text, or times in several zones
        try:
            values = pd.to_datetime(values, utc=True)
        except (ValueError, TypeError) as error:
            raise UserError(f"entity_df: cannot read the times in {time!r}: {error}") from error
        entity_df = entity_df.assign(**{time: values})
    frame = pl.from_arrow(pa.Table.from_pandas(entity_df, preserve_index=False))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _in_utc(frame: pl.DataFrame, time: str) -> pl.Expr:
    dtype = frame.schema[time]
    if not isinstance(dtype, pl.Datetime):
        if dtype not in (pl.Date, pl.Null):
            raise UserError(f"entity_df: {time!r} is of type {dtype}; it must hold times.")
        return pl.col(time).cast(pl.Datetime("us", "UTC"))
    unit = "us" if dtype.time_unit == "ms" else dtype.time_unit
    column = pl.col(time).cast(pl.Datetime(unit, dtype.time_zone))
    if dtype.time_zone is None:
        return column.dt.replace_time_zone("UTC")
    return column.dt.convert_time_zone("UTC")
