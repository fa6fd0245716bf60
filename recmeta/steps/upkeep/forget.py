"""a user ──▶ nothing: out of every table and its history, every cache, the feature store, MLflow.

Models are not changed. Those that were trained on the user are marked for retraining.
"""

import contextlib
import dataclasses
import datetime
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from safetensors import SafetensorError

from recmeta import schema
from recmeta.config import fingerprint
from recmeta.errors import Broken, UserError
from recmeta.logs import tables
from recmeta.logs.erase import erase_rows
from recmeta.logs.events.opening import event_store
from recmeta.logs.quarantined import mentions, of_users
from recmeta.manifest import finished, rewriting
from recmeta.manifest import forget as forget_step
from recmeta.records.step_definition import as_stored
from recmeta.registry.models import forgotten
from recmeta.reporting.markdown import shows_user
from recmeta.serving.ranking import AdaptedUsers
from recmeta.steps.data import build_tasks
from recmeta.steps.learning import evaluate, meta_train
from recmeta.steps.serving import adapt, shard_new_users
from recmeta.tasks.task_set import SPEC_FILE
from recmeta.workspace import REPORT, Folder, Workspace, arrow_table, sealed, writes_alone
from recmeta.workspace.folder import parquet_bytes

STEP = "forget"
OF_USERS = (
    schema.INTERACTIONS,
    schema.USERS,
    schema.USER_ACTIVITY,
    schema.RECOMMENDATIONS,
    schema.USER_CAPSULES,
)
"""Tables with a column of user ids."""
CACHES: dict[str, str | None] = {
    "tasks": build_tasks.STEP,
    "states": adapt.STEP,
    "new_users": shard_new_users.STEP,
    "lists": None,
}
"""Folders whose subfolders are made again when they are needed, and the step that makes them."""
ALERTS = "alerts"
"""The folder of what Airflow's tasks said as they failed, which may cite cells of a log."""
TRAINED_ON = ("train-", "dev-")
"""Prefixes of the names of shards with users that a training saw."""
_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, SafetensorError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was removed, and which models were trained on it."""

    models: tuple[str, ...]
    """Versions that were trained on the users, and are marked for retraining."""
    removed: dict[str, int]
    """Rows by table, `events` that the endpoint kept, folders by cache, changed files of `reports`
    and `mlflow_artifacts`, deleted ones of `alerts`."""
    online_views: int | None = None
    """Views that were put online again; None without a feature store."""

    def summary(self) -> dict[str, Any]:
        """Return all of it by name, JSON-ready."""
        online = {} if self.online_views is None else {"online_views": self.online_views}
        return {"models": list(self.models), **self.removed, **online}


@writes_alone
def run(
    workspace: Workspace,
    user_ids: Collection[str],
    *,
    feature_store: str | None = None,
    reference: str | None = None,
    now: datetime.datetime | None = None,
) -> Forgotten:
    """Remove users for good. A second call, also after the first was killed, removes what is left.

    Args:
        feature_store: a Feast repository, or a configuration in it, whose online store knows users.
        reference: recorded with the request, such as the number of a ticket, but never an id.
        now: if None, the current time.

    Raises:
        UserError: if an id is empty, the reference contains one, or there is no workspace.
    """
    _check(user_ids, reference)
    workspace.require_made()
    clock = now or datetime.datetime.now(datetime.UTC)
    why = f"users whom it was trained on were forgotten on {clock.date().isoformat()}"
    # First the models: the task sets, which are deleted next, say which models knew the users.
    keys = _trainings_on(workspace, user_ids)
    models = forgotten.mark_for_retraining(workspace, keys, why) if keys else []
    removed: dict[str, int] = {}
    for table in OF_USERS:
        removed[table.name] = erase_rows(workspace, table, _is_any_of(user_ids))
    removed[schema.QUARANTINE.name] = erase_rows(
        workspace,
        schema.QUARANTINE,
        _in_quarantine(workspace, user_ids),
    )
    store = event_store(workspace)
    if store is not None:
        with contextlib.closing(store):
            removed["events"] = store.forget(user_ids)
    for name, step in CACHES.items():
        removed[name] = _drop_caches(workspace, name, step, user_ids)
    removed["reports"] = _rewrite_reports(workspace, user_ids)
    if workspace.exists(ALERTS):
        removed[ALERTS] = _delete_alerts(workspace, user_ids)
    removed["mlflow_artifacts"] = forgotten.erase_from_artifacts(workspace, user_ids)
    online_views = None
    if feature_store is not None:
        from recmeta.features.feast_forget import put_users_online_anew

        online_views = put_users_online_anew(feature_store)
    found = Forgotten(models=tuple(models), removed=removed, online_views=online_views)
    record = {
        "at": clock.isoformat(),
        "num_users": len(set(user_ids)),
        "reference": reference,
        "removed": found.summary(),
    }
    # Nothing of the ids is kept: the hash of a short id can be found by trying.
    folder = workspace / "manifests" / STEP
    folder.write_json(f"{fingerprint(record)}.json", record)
    return found


def _check(user_ids: Collection[str], reference: str | None) -> None:
    if not user_ids or not all(user_id.strip() for user_id in user_ids):
        raise UserError(
            "there is no user to forget: give the user_id of one, as the tables have it."
        )
    if reference is not None and mentions(reference, user_ids):
        raise UserError("--reference contains the user's id: name the request in another way.")


def _is_any_of(user_ids: Collection[str]) -> pc.Expression:
    wanted = pa.array(sorted(user_ids), pa.string())
    return pc.field(schema.USER_ID).cast(pa.string()).isin(wanted)


def _in_quarantine(workspace: Workspace, user_ids: Collection[str]) -> pc.Expression:
    if not tables.is_there(workspace, schema.QUARANTINE):
        return pc.scalar(False)
    return of_users(tables.opened(workspace, schema.QUARANTINE).to_pyarrow_dataset(), user_ids)


def _trainings_on(workspace: Workspace, user_ids: Collection[str]) -> set[str]:
    """Return the keys of the trainings that saw the users and, if the users are in the log, of
    those for which this is no longer known."""
    in_log = False
    if tables.is_there(workspace, schema.INTERACTIONS):
        log = tables.opened(workspace, schema.INTERACTIONS).to_pyarrow_dataset()
        in_log = log.count_rows(filter=_is_any_of(user_ids)) > 0
    own: dict[str, bool] = {}
    for key in (workspace / "tasks").names():
        shards = [
            (name, content)
            for name, content in _files(workspace / "tasks" / key)
            if name.rsplit("/", 1)[-1].startswith(TRAINED_ON)
        ]
        own[key] = any(_has_users(name, content, user_ids) for name, content in shards)
    # What an earlier version of the tasks has of a user, an increment has, too, if it is newer.
    tasks = {
        key: any(own.get(name, in_log) for name in (key, *_added_to(workspace / "tasks" / key)))
        for key in own
    }
    trainings = finished(workspace, as_stored(meta_train.STEP))
    return {m.key for m in trainings if tasks.get(m.inputs["tasks"], in_log)}


def _drop_caches(
    workspace: Workspace, name: str, step: str | None, user_ids: Collection[str]
) -> int:
    """Delete the subfolders in which the users are, and take back that they were made."""
    keys = (workspace / name).names()
    kept = {
        key
        for key in keys
        if not any(_has_users(*file, user_ids) for file in _files(workspace / name / key))
    }
    # Tasks that add to others cannot be used without them.
    kept = {key for key in kept if kept.issuperset(_added_to(workspace / name / key))}
    dropped = [key for key in keys if key not in kept]
    for key in dropped:
        folder = workspace / name / key
        if step is not None:
            forget_step(workspace, step, key)
        folder.filesystem.delete_dir(folder.path)
    return len(dropped)


def _added_to(folder: Folder) -> tuple[str, ...]:
    """Return the folders of the tasks that a task set adds to; none of any other folder."""
    if not folder.exists(SPEC_FILE):
        return ()
    try:
        return tuple(folder.read_json(SPEC_FILE).get("increment_of", ()))
    except (UserError, AttributeError, TypeError):  # what cannot be read is made again
        return ()


def _delete_alerts(workspace: Workspace, user_ids: Collection[str]) -> int:
    """Delete the alerts that mention one of the users."""
    folder = workspace / ALERTS
    named = [
        name
        for name in folder.names()
        if mentions(folder.read_bytes(name).decode("utf-8", "replace"), user_ids)
    ]
    for name in named:
        folder.delete(name)
    return len(named)


def _rewrite_reports(workspace: Workspace, user_ids: Collection[str]) -> int:
    """Take the users out of the evaluations' files; a run's report that names one is deleted."""
    changed = 0
    for key in (workspace / "reports").names():
        changed += _rewrite_report(workspace, key, user_ids)
    if workspace.exists(REPORT):
        text = workspace.read_bytes(REPORT).decode()
        if any(shows_user(text, user_id) for user_id in user_ids):
            workspace.filesystem.delete_file(f"{workspace.path}/{REPORT}")
            changed += 1
    return changed


def _rewrite_report(workspace: Workspace, key: str, user_ids: Collection[str]) -> int:
    """Take the users out of one evaluation's files, whose digests are then others; one that cannot
    be read is deleted, and the evaluation is done again when it is asked for."""
    folder, changed = workspace / "reports" / key, 0
    for name, content in _files(folder):
        if not name.endswith(".parquet"):
            continue
        try:
            kept = forgotten.without_users(_parquet(content), user_ids)
        except _UNREADABLE:
            forget_step(workspace, evaluate.STEP, key)
            folder.delete(name)
            changed += 1
            continue
        if kept is not None:
            _replace(workspace, key, name, parquet_bytes(kept))
            changed += 1
    return changed


def _replace(workspace: Workspace, key: str, name: str, content: bytes) -> None:
    """Rewrite a file of an evaluation, and its digests before it: killed in between, the same
    command finds the users again."""
    folder = workspace / "reports" / key
    try:
        place = sealed(folder)
    except Broken:  # the evaluation is done again when it is asked for
        forget_step(workspace, evaluate.STEP, key)
    else:
        if place.digests is not None:  # it is not of an earlier version
            expected = place.expect(name, content)
            rewriting(workspace, evaluate.STEP, key, {f"reports/{key}": expected})
            place.seal()
    folder.write_bytes(name, content)


def _files(folder: Folder) -> Iterator[tuple[str, bytes]]:
    """Yield the path within a folder, and the content, of each of its files."""
    selector = pafs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    for info in folder.filesystem.get_file_info(selector):
        if info.type == pafs.FileType.File:
            name = info.path[len(folder.path) + 1 :]
            yield name, folder.read_bytes(name)


def _has_users(name: str, content: bytes, user_ids: Collection[str]) -> bool:
    """Return whether a file of a cache is of any of the users; one that cannot be read may be."""
    try:
        if name.endswith(".parquet"):
            rows = _parquet(content)
        elif name.endswith(".arrow"):
            rows = arrow_table(pa.py_buffer(content), name)
        elif name.endswith(".safetensors"):
            return not set(user_ids).isdisjoint(AdaptedUsers.from_bytes(content).user_id)
        else:
            return False
    except _UNREADABLE:
        return True
    return forgotten.without_users(rows, user_ids) is not None


def _parquet(content: bytes) -> pa.Table:
    """Return the table in a Parquet file, checked in full."""
    rows = pq.read_table(pa.BufferReader(content))
    rows.validate(full=True)
    return rows
