"""New users as a pandas frame of their interactions."""

import logging

import pandas as pd
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError, did_you_mean, listed, shown
from recmeta.metalearn.model import Model
from recmeta.serving.new_user_tasks import (
    left_with_none,
    tasks_for_new_users,
    unknown_items,
    unused_rows,
)
from recmeta.tasks.pandas_columns import of_pandas, plain_column
from recmeta.tasks.task_set import Tasks

log = logging.getLogger(__name__)

MOST_NAMED = 2
"""The most items unknown to the model that are named."""
INTERACTION_COLUMNS = (schema.USER_ID, schema.ITEM_ID, schema.VALUE, schema.TIMESTAMP)


def tasks_of_frame(model: Model, frame: pd.DataFrame) -> Tasks:
    """Return the users of a frame of interactions, sorted by id.

    Raises:
        UserError: if a column is missing or two have one name, a user has no id, or a column is
            neither text, numbers nor times.
    """
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise UserError(f"the frame has two columns named {shown(twice[0])}: keep one of them.")
    if schema.ITEM_ID not in frame:
        known = {*INTERACTION_COLUMNS, *profile_fields(model)}
        others = [str(name) for name in frame.columns if name not in known]
        if others:  # one of them may be meant
            raise UserError(
                f"the frame has no column {schema.ITEM_ID!r}."
                f"{did_you_mean(schema.ITEM_ID, others)} It has: {listed(list(frame))}."
            )
    rows = _interactions(frame)
    tasks, counts = tasks_for_new_users(model, rows, _profiles(model, frame))
    unknown = unknown_items(model, rows, MOST_NAMED) if counts.unknown_items else []
    unused = unused_rows(model, counts, {}, unknown)
    if unused:
        log.warning(f"{unused} {left_with_none(counts)}".strip())
    return tasks


def profile_fields(model: Model) -> dict[str, str]:
    """Return the kind of each user attribute that a frame may give, by name."""
    return {
        field.name: field.kind
        for field in model.encoder.user_fields
        if field.name not in INTERACTION_COLUMNS
    }


def _interactions(frame: pd.DataFrame) -> pa.Table:
    if frame.empty:
        raise UserError(f"there is no row: give at least one with a {schema.USER_ID}.")
    columns = {name: _column(frame[name]) for name in INTERACTION_COLUMNS if name in frame}
    columns.setdefault(schema.ITEM_ID, pa.nulls(len(frame), pa.string()))
    if columns[schema.ITEM_ID].null_count == len(frame):
        columns.setdefault(schema.VALUE, pa.nulls(len(frame), pa.float32()))
    return pa.table(columns)


def _profiles(model: Model, frame: pd.DataFrame) -> pa.Table | None:
    """Return a row per user: the first value of each attribute that any of the user's rows has."""
    names = [name for name in profile_fields(model) if name in frame]
    if not names or schema.USER_ID not in frame:
        return None
    first = frame.groupby(schema.USER_ID, sort=False, observed=True)[names].first().reset_index()
    return pa.table({name: _column(first[name]) for name in (schema.USER_ID, *names)})


def _column(values: pd.Series) -> pa.Array:
    name = str(values.name)
    is_text = pd.api.types.is_object_dtype(values) or isinstance(values.dtype, pd.StringDtype)
    if name == schema.TIMESTAMP and is_text:
        values = _moments(values)  # JSON brings times as text
    column = plain_column(of_pandas(values, name, "frame"), name, "frame")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_timestamp(column.type):  # Arrow's microseconds are what the tasks are in
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if name in (schema.USER_ID, schema.ITEM_ID) and pa.types.is_floating(column.type):
        column = _whole(column)
    return column


def _moments(values: pd.Series) -> pd.Series:
    try:
        return pd.to_datetime(values, utc=True, format="ISO8601")
    except (ValueError, TypeError) as error:
        reason = str(error).partition(". ")[0]
        raise UserError(
            f"the column {schema.TIMESTAMP!r} holds a value that is not a time: {reason:.200}. "
            "Give numbers, or text such as 2024-05-01T12:30:00Z."
        ) from error


def _whole(ids: pa.Array) -> pa.Array:
    """Return ids as integers if pandas made them floats because some are missing."""
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return ids
