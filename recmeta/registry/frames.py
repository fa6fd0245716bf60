"""New users as a pandas frame of their interactions."""

import pandas as pd
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError, did_you_mean, listed
from recmeta.metalearn.model import Model
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.tasks.task_set import Tasks

INTERACTION_COLUMNS = (schema.USER_ID, schema.ITEM_ID, schema.VALUE, schema.TIMESTAMP)


def tasks_of_frame(model: Model, frame: pd.DataFrame) -> Tasks:
    """Return the users of a frame of interactions, sorted by id.

    Raises:
        UserError: for a missing column, a user without an id or a column of mixed types.
    """
    if schema.ITEM_ID not in frame:
        known = {*INTERACTION_COLUMNS, *profile_fields(model)}
        others = [str(name) for name in frame.columns if name not in known]
        if others:  # one of them may be meant
            raise UserError(
                f"the frame has no column {schema.ITEM_ID!r}."
                f"{did_you_mean(schema.ITEM_ID, others)} It has: {listed(list(frame))}."
            )
    return tasks_for_new_users(model, _interactions(frame), _profiles(model, frame))[0]


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
    if values.name == schema.TIMESTAMP and not pd.api.types.is_numeric_dtype(values):
        # JSON brings times as text; Arrow's microseconds are what the tasks are in.
        values = pd.to_datetime(values, utc=True, format="ISO8601").dt.as_unit("us")
    try:
        column = pa.Array.from_pandas(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"the column {values.name!r} holds values of several types: make it one ({error})."
        ) from error
    if values.name in (schema.USER_ID, schema.ITEM_ID) and pa.types.is_floating(column.type):
        column = _whole(column)
    return column


def _whole(ids: pa.Array) -> pa.Array:
    """Return ids as integers where pandas made them floats because some are missing."""
    try:
        return ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return ids
