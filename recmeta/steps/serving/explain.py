"""The user whose score is to be explained: one of the log, or of a file."""

import datetime

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.errors import UserError, did_you_mean
from recmeta.logs import tables
from recmeta.logs.mapping import LogMapping
from recmeta.logs.reading.files import Inputs
from recmeta.metalearn.model import Model
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.serving.spelling import spellings
from recmeta.steps.parts import given_users
from recmeta.tasks.task_set import Tasks
from recmeta.workspace import Workspace


def user_of_log(workspace: Workspace, model: Model, user_id: str) -> Tasks:
    """Return a user of the workspace's log with all interactions as support, as scoring sees them.

    Raises:
        UserError: if the user is neither in the interactions nor among the users.
    """
    interactions = tables.scan(workspace, schema.INTERACTIONS)
    users = tables.scan(workspace, schema.USERS)
    spelled = spellings(user_id)
    known = [
        table.select(schema.USER_ID).filter(pl.col(schema.USER_ID).is_in(spelled)).unique()
        for table in (interactions, users)
    ]
    user_id = _as_known(spelled, pl.concat(known).collect()[schema.USER_ID].to_list())
    graded = pl.col(schema.EVENT) == schema.RATING_EVENT
    own = interactions.filter(pl.col(schema.USER_ID) == user_id)
    rows = own.filter(graded | ~graded.any()) if model.objective == "rating" else own
    columns = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.VALUE]
    found = rows.select(columns).sort(schema.TIMESTAMP, schema.ITEM_ID).collect()
    profiles = (
        users.filter(pl.col(schema.USER_ID) == user_id)
        .sort(schema.VALID_FROM)
        .collect()
        .tail(1)
        .drop(schema.VALID_FROM)
    )
    if not found.height and not profiles.height:
        raise UserError(
            f"the workspace {workspace.location} knows no user {user_id!r}: give a user_id of the "
            "table interactions, or the user's interactions in a file with --new-users."
        )
    given = None if not profiles.height else schema.with_plain_types(profiles.to_arrow())
    tasks, _ = tasks_for_new_users(model, schema.with_plain_types(found.to_arrow()), given)
    return tasks


def _as_known(spelled: list[str], known: list[str]) -> str:
    """Return the known spelling of a user's id, or the given one if none is known."""
    return next((user_id for user_id in spelled if user_id in known), spelled[0])


def user_of_file(model: Model, new_users: LogMapping, user_id: str) -> Tasks:
    """Return a user of a file of new users, as `adapt` reads it.

    Raises:
        UserError: for a user who is not in the file.
    """
    clock = datetime.datetime.now(datetime.UTC)
    others: list[str] = []
    with given_users.read(new_users, Inputs.of(new_users), None, clock) as found:
        for rows, profiles in found.parts():
            tasks, _ = tasks_for_new_users(model, rows, profiles)
            ids = tasks.user_id
            user_id = _as_known(spellings(user_id), ids)
            if user_id in ids:
                return tasks.take(np.array([ids.index(user_id)]))
            others += ids
    raise UserError(
        f"{new_users.path!r} has no user {user_id!r}.{did_you_mean(user_id, others)} "
        f"It has {len(others)} others."
    )
