"""One user's list: the latest in the table, or one that the champion makes from the log now."""

import dataclasses
import datetime
from typing import Any

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs import tables
from recmeta.manifest import find
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.registry.models import versions
from recmeta.serving.lists import ListMaker
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.serving.spelling import spellings
from recmeta.steps.parts import catalogue
from recmeta.steps.serving import adapt, list_files, score
from recmeta.steps.serving.explain import user_of_log
from recmeta.tasks.task_set import Tasks, read_tasks
from recmeta.workspace import Folder, Workspace, sealed

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownUser:
    """A user's list and what it was made from."""

    user_id: str
    run: str | None
    """The run in the table of recommendations; None for a list that was made now."""
    model_version: str
    scored_at: str
    dates: tuple[str, ...]
    """The days for which the list stands in the table `published`."""
    recommendations: Rows
    """The list's places, with the columns of the files of lists, but for those of the run."""
    interactions: Rows | None
    """The interactions that the model was adapted to, the latest last: `item_id`, `title`, `value`.
    None if they were cleaned up."""
    profile: dict[str, Any] | None
    """The attributes that were known. None if they were cleaned up."""


def published_list(workspace: Workspace, user_id: str) -> ShownUser | None:
    """Return the latest list of a user in the table of recommendations; None if there is none.

    Args:
        user_id: spelled as in the log, or as a spreadsheet spells it (`42.0`).
    """
    if not tables.is_there(workspace, schema.RECOMMENDATIONS):
        return None
    lists = tables.scan(workspace, schema.RECOMMENDATIONS)
    own = lists.filter(pl.col(schema.USER_ID).is_in(spellings(user_id))).collect()
    if not own.height:
        return None
    latest = own.sort(schema.SCORED_AT).row(-1, named=True)
    run, user_id = latest[schema.RUN], latest[schema.USER_ID]
    of_run = (pl.col(schema.RUN) == run) & (pl.col(schema.USER_ID) == user_id)
    known = list_files.titles(workspace)
    found = _adapted_to(workspace, run, user_id, known)
    return ShownUser(
        user_id=user_id,
        run=run,
        model_version=latest[schema.MODEL_VERSION],
        scored_at=latest[schema.SCORED_AT].isoformat(),
        dates=_dates(workspace, run),
        recommendations=_places(own.filter(of_run), known),
        interactions=None if found is None else found[0],
        profile=None if found is None else found[1],
    )


def list_of_log(
    workspace: Workspace, user_id: str, config: ScoringConfig | None = None
) -> ShownUser:
    """Return the list that the champion makes from a user's current rows in the log.

    Raises:
        UserError: if the log does not have the user, or there is no champion.
    """
    version = versions.in_use(workspace)
    model = catalogue.model_of_now(workspace, version)
    tasks = user_of_log(workspace, model, user_id)
    maker = ListMaker(Scorer.of(model), config or ScoringConfig())
    clock = datetime.datetime.now(datetime.UTC)
    of_run = {schema.RUN: "", schema.MODEL_VERSION: version.version, schema.SCORED_AT: clock}
    lists = score.lists_of(maker, adapt_users(maker.scorer, tasks), tasks)
    rows = pl.DataFrame(lists).with_columns(pl.lit(v).alias(n) for n, v in of_run.items())
    known = list_files.titles(workspace)
    return ShownUser(
        user_id=tasks.user_id[0],
        run=None,
        model_version=version.version,
        scored_at=clock.isoformat(),
        dates=(),
        recommendations=_places(rows, known),
        interactions=_named(tasks, model.catalogue.items.item_id.to_pylist(), known),
        profile=_profile(tasks),
    )


def _places(rows: pl.DataFrame, known: pl.DataFrame) -> Rows:
    places = list_files.with_titles(rows, known).drop(list_files.OF_USER)
    return places.to_dicts()


def _dates(workspace: Workspace, run: str) -> tuple[str, ...]:
    if not tables.is_there(workspace, schema.PUBLISHED):
        return ()
    published = tables.scan(workspace, schema.PUBLISHED).filter(pl.col(schema.RUN) == run)
    dates = published.select(pl.col(schema.DATE).sort()).collect().to_series()
    return tuple(date.isoformat() for date in dates)


def _adapted_to(
    workspace: Workspace, run: str, user_id: str, known: pl.DataFrame
) -> tuple[Rows, dict[str, Any]] | None:
    """Return the interactions and the profile that a user of a run was adapted to; None where they,
    or the model that numbers the items, were cleaned up."""
    scored = find(workspace, score.STEP, run)
    if scored is None:
        return None
    adapted = find(workspace, adapt.STEP, scored.inputs["adapted"])
    if adapted is None or not workspace.exists(adapted.outputs.states):
        return None
    try:
        folder = sealed(workspace / adapted.outputs.states)
        tasks = _of_user(folder, adapted.outputs.num_shards, user_id)
        if tasks is None:
            return None
        version = versions.get(workspace, adapted.outputs.model_version)
        trained = Model.load(versions.model_folder(workspace, version))
    except (UserError, FileNotFoundError):
        return None
    model = catalogue.as_written(trained, folder)
    return _named(tasks, model.catalogue.items.item_id.to_pylist(), known), _profile(tasks)


def _of_user(folder: Folder, num_shards: int, user_id: str) -> Tasks | None:
    for shard in range(num_shards):
        tasks = read_tasks(folder, adapt.shard_files(shard)[1])
        if user_id in tasks.user_id:
            return tasks.take(np.array([tasks.user_id.index(user_id)]))
    return None


def _named(tasks: Tasks, item_ids: list[str], known: pl.DataFrame) -> Rows:
    title = dict(known.iter_rows())
    ids = [item_ids[number] for number in tasks.support.item.tolist()]
    return [
        {schema.ITEM_ID: item_id, schema.TITLE: title.get(item_id), schema.VALUE: value}
        for item_id, value in zip(ids, tasks.support.value.tolist(), strict=True)
    ]


def _profile(tasks: Tasks) -> dict[str, Any]:
    row = tasks.profile.drop_columns([schema.USER_ID]).to_pylist()[0]
    return {name: value for name, value in row.items() if value not in (None, [])}
