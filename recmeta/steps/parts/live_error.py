"""The champion's error on what users did on one day, given only what came before it.

Each user who gave ratings that day is a task: the latest rows before the day are the support, and
the day's rows are the query. To adapt first and evaluate afterwards is the prequential way to test
(Dawid, 1984): every row is unseen when it is predicted.
"""

import dataclasses
import datetime

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.features.attributes import newest
from recmeta.logs import tables
from recmeta.metalearn.model import Model
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.tasks.arrays import offsets_of
from recmeta.tasks.task_set import Ragged
from recmeta.workspace import Workspace

MAX_SUPPORT = 20
PRIOR_ROWS = 5.0
"""The item mean with which the model is compared is shrunk to the global mean by this many rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveError:
    """The champion against the item mean on the same feedback."""

    rows: int
    """Ratings of the day on items that the model knows."""
    model_mae: float
    """Mean absolute error of the champion, in units of the value."""
    item_mean_mae: float
    """Mean absolute error of the mean value that each item had when the model was trained."""


def live_error(workspace: Workspace, model: Model, day: datetime.date) -> LiveError | None:
    """Return the errors on a day's ratings; None if there are no ratings, or feedback is
    implicit."""
    if model.objective != "rating":
        return None
    rated = pl.col(schema.EVENT) == schema.RATING_EVENT
    ratings = tables.scan(workspace, schema.INTERACTIONS).filter(rated)
    today = _ratings_of(ratings, day, model)
    if not today.height:
        return None
    users = today.select(schema.USER_ID).unique()
    tasks, _ = tasks_for_new_users(
        model,
        schema.with_plain_types(_support(ratings, users, day).to_arrow()),
        schema.with_plain_types(_profiles(workspace, users, day).to_arrow()),
    )
    query = _query(today, tasks.user_id)
    predicted = LearnedPredictor("champion", model).score_query(
        dataclasses.replace(tasks, query=query)
    )
    item_mean = _item_means(model)[query.item]
    return LiveError(
        rows=today.height,
        model_mae=float(np.abs(predicted - query.value).mean()),
        item_mean_mae=float(np.abs(item_mean - query.value).mean()),
    )


def _ratings_of(ratings: pl.LazyFrame, day: datetime.date, model: Model) -> pl.DataFrame:
    """Return a day's ratings of items that the model knows, with the items' numbers as `item`."""
    today = (
        ratings.filter(pl.col(schema.TIMESTAMP).dt.date() == day)
        .sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID)
        .select(schema.USER_ID, schema.ITEM_ID, schema.VALUE)
        .collect()
    )
    number = model.catalogue.lookup.numbers_of(today[schema.ITEM_ID].to_arrow())
    return today.with_columns(pl.Series("item", number)).filter(pl.col("item") >= 0)


def _support(ratings: pl.LazyFrame, users: pl.DataFrame, day: datetime.date) -> pl.DataFrame:
    """Return the users' latest ratings before a day."""
    return (
        ratings.filter(pl.col(schema.TIMESTAMP).dt.date() < day)
        .join(users.lazy(), on=schema.USER_ID, how="semi")
        .sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID)
        .group_by(schema.USER_ID, maintain_order=True)
        .tail(MAX_SUPPORT)
        .select(schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.VALUE)
        .collect()
    )


def _profiles(workspace: Workspace, users: pl.DataFrame, day: datetime.date) -> pl.DataFrame:
    """Return a row per user, also for those without interactions before the day: they get a task,
    too."""
    since = pl.col(schema.VALID_FROM)
    versions = tables.scan(workspace, schema.USERS)
    known_before = versions.filter(since.is_null() | (since.dt.date() < day))
    profiles = newest(known_before, schema.USER_ID)
    return users.lazy().join(profiles, on=schema.USER_ID, how="left").collect()


def _query(today: pl.DataFrame, user_id: list[str]) -> Ragged:
    """Return the day's ratings, task by task."""
    order = pl.DataFrame({schema.USER_ID: user_id}).with_row_index("task")
    rows = today.join(order, on=schema.USER_ID).sort("task", maintain_order=True)
    lengths = np.bincount(rows["task"].to_numpy(), minlength=len(user_id))
    return Ragged(
        offsets_of(lengths),
        rows["item"].to_numpy().astype(np.int32),
        rows[schema.VALUE].to_numpy().astype(np.float32),
        np.zeros(len(rows), np.bool_),
    )


def _item_means(model: Model) -> np.ndarray:
    statistics = model.catalogue.statistics
    count, total = statistics.num_users[-1], statistics.sum_values[-1]
    mean = model.encoder.value_mean
    means: np.ndarray = (total + PRIOR_ROWS * mean) / (count + PRIOR_ROWS)
    return means
