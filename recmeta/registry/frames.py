"""New users as a pandas frame of their interactions, and their ranked lists."""

import numpy as np
import pandas as pd
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.ranking import ScoringConfig, adapt_users, rank
from recmeta.tasks.task_set import Tasks

INTERACTION_COLUMNS = (schema.USER_ID, schema.ITEM_ID, schema.VALUE, schema.TIMESTAMP)


def tasks_of_frame(model: Model, frame: pd.DataFrame) -> Tasks:
    """Return the users of a frame of interactions, sorted by id.

    Raises:
        UserError: for a missing column, a user without an id or a column of mixed types.
    """
    return tasks_for_new_users(model, _interactions(frame), _profiles(model, frame))[0]


def lists(scorer: Scorer, tasks: Tasks, titles: pa.Array | None, config: ScoringConfig) -> pa.Table:
    """Return the ranked lists of some users, a row per user and rank."""
    users = adapt_users(scorer, tasks)
    ranked = rank(scorer, users, config)
    user, place = np.nonzero(ranked.item_Bk >= 0)
    item = pa.array(ranked.item_Bk[user, place])
    columns = {
        schema.USER_ID: pa.array(users.user_id).take(pa.array(user)),
        schema.RANK: pa.array((place + 1).astype(np.int32)),
        schema.ITEM_ID: scorer.model.catalogue.items.item_id.take(item),
        schema.TITLE: None if titles is None else titles.take(item),
        schema.SCORE: pa.array(ranked.score_Bk[user, place]),
    }
    return pa.table({name: c for name, c in columns.items() if c is not None})


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
    first = frame.groupby(schema.USER_ID, sort=False)[names].first().reset_index()
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
