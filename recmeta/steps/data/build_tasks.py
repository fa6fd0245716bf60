"""interactions, users, items ──▶ tasks: a task set in Arrow shards, and the table of the statistics
of items that they read."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import Broken
from recmeta.features.item_statistics import as_table
from recmeta.features.text_vectors import MODEL
from recmeta.logs import whole
from recmeta.logs.tables import as_dataset, opened, overwrite
from recmeta.logs.whole import TableVersions
from recmeta.manifest import Manifest, find, finished, is_redone, latest_key, losses, run_once
from recmeta.progress import Progress, silent
from recmeta.records.provenance import git_commit, library_versions
from recmeta.records.step_definition import Folders, Step, as_stored
from recmeta.steps.data import ingest
from recmeta.steps.parts.increments.building import (
    MOST_ROWS,
    MOST_SHARE,
    Before,
    write_increment,
)
from recmeta.steps.parts.increments.log_changes import (
    InFull,
    changed_rows,
    files_of,
    sources_id,
)
from recmeta.steps.parts.task_building import BuildTasksConfig, BuiltTasks, write_tasks
from recmeta.tasks.increments.build_state import FILE as LOG_FILE
from recmeta.tasks.increments.build_state import read_state
from recmeta.tasks.increments.user_rows import UserRows
from recmeta.tasks.item_files import ItemStatistics
from recmeta.tasks.task_set import Objective, TaskSet
from recmeta.workspace import Folder, Workspace, writes

SOURCES = "sources"
TEXT_VECTORS = f"text_vectors/{MODEL}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildTasksOutputs:
    """The outputs of build-tasks."""

    tasks: str
    """Folder of the task set, in the workspace."""
    objective: Objective
    """The kind of feedback."""
    temporal: bool
    """Whether the log has times, so that tasks are cut by them."""
    item_statistics: int
    """Version of the table."""
    interactions_id: str
    """Id of the table of interactions, which distinguishes its versions from those of another
    table."""
    increment_of: tuple[str, ...] = ()
    """Folders of the task sets that this one adds to, the base first; none if it was built in
    full."""
    built: str = ""
    """Whether the tasks were built in full or on top of the last ones, and why, in one sentence.
    Empty in manifests of earlier versions."""


class _AddedTo(Folders):
    """The folders that a task set adds to, which steps of their own left."""

    def remove(self, workspace: Workspace, outputs: Any) -> None:
        """Keep them: others add to them, too."""


STEP = Step(
    "build-tasks",
    BuildTasksOutputs,
    leaves=(
        Folders(lambda outputs: [outputs.tasks]),
        _AddedTo(lambda outputs: outputs.increment_of),
        TableVersions(lambda outputs: {schema.ITEM_STATISTICS: outputs.item_statistics}),
    ),
)


@writes
def run(
    config: BuildTasksConfig, workspace: Workspace, *, progress: Progress = silent
) -> Manifest[BuildTasksOutputs]:
    """Build the task set of the current tables; do nothing if it exists.

    Raises:
        UserError: if nothing has been ingested, or the filters leave no task.
    """
    tables = {
        t.name: whole.check(workspace, t) for t in (schema.INTERACTIONS, schema.USERS, schema.ITEMS)
    }
    _require_logs(workspace, tables)
    inputs: dict[str, Any] = {name: table.version() for name, table in tables.items()}
    # Tells these versions from another workspace's, where both keep their models in one MLflow.
    inputs[SOURCES] = sources_id(workspace, tables[schema.INTERACTIONS.name])
    # Before the work, which takes back the manifest of a step that is done again.
    redo = is_redone(STEP)

    def work(key: str) -> tuple[BuildTasksOutputs, dict[str, int]]:
        folder = workspace / "tasks" / key
        try:
            if redo:
                raise InFull("it was asked for again")
            built, how = _on_top(config, workspace, tables, inputs, folder, progress)
        except InFull as why:
            built, how = _in_full(config, workspace, tables, folder, progress), f"in full: {why}"
        outputs = BuildTasksOutputs(
            tasks=f"tasks/{key}",
            objective=built.spec.objective,
            temporal=built.spec.temporal,
            item_statistics=_publish(workspace, built.statistics, built.item_id),
            interactions_id=str(tables[schema.INTERACTIONS.name].metadata().id),
            increment_of=tuple(f"tasks/{name}" for name in built.spec.increment_of),
            built=how,
        )
        return outputs, built.counts

    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def _in_full(
    config: BuildTasksConfig,
    workspace: Workspace,
    tables: Mapping[str, DeltaTable],
    folder: Folder,
    progress: Progress,
) -> BuiltTasks:
    interactions = tables[schema.INTERACTIONS.name]
    encoded = (schema.ITEM_ID, schema.EVENT)
    users, items = (pl.scan_delta(tables[t.name]) for t in (schema.USERS, schema.ITEMS))
    return write_tasks(
        config,
        as_dataset(workspace, schema.INTERACTIONS, interactions, encoded=encoded),
        users,
        items,
        folder,
        text_vectors=workspace / TEXT_VECTORS,
        log_files=files_of(interactions),
        progress=progress,
    )


def _on_top(
    config: BuildTasksConfig,
    workspace: Workspace,
    tables: Mapping[str, DeltaTable],
    inputs: Mapping[str, Any],
    folder: Folder,
    progress: Progress,
) -> tuple[BuiltTasks, str]:
    """Build the tasks on top of those that were built last, and say how.

    Raises:
        InFull: if that is not possible.
    """
    before, versions = _last(config, workspace, tables, inputs)
    parts = before.parts
    state, now = read_state(parts[-1].folder), files_of(tables[schema.INTERACTIONS.name])
    base = int(UserRows(parts[0].folder).num_rows.sum())
    most_gone = min(int(MOST_SHARE * base), MOST_ROWS)
    changes = changed_rows(workspace, state.files, now, most_gone=most_gone, most_more=MOST_ROWS)
    users, items = (pl.scan_delta(tables[t.name]) for t in (schema.USERS, schema.ITEMS))
    changed_users = _changed_users(workspace, tables[schema.USERS.name], versions)
    built = write_increment(
        config,
        before,
        changes,
        changed_users,
        users,
        items,
        folder,
        log_files=now,
        text_vectors=workspace / TEXT_VECTORS,
        progress=progress,
    )
    num_users = UserRows(folder).num_rows.size
    how = (
        f"on top of {len(parts)} earlier: {len(changes):,} rows came or went, which touch "
        f"{num_users:,} users"
    )
    return built, how


def _last(
    config: BuildTasksConfig,
    workspace: Workspace,
    tables: Mapping[str, DeltaTable],
    inputs: Mapping[str, Any],
) -> tuple[Before, dict[str, Any]]:
    """Return the tasks that were built last with the same settings, and what was read for them.

    Raises:
        InFull: if there are none to which rows can be added.
    """
    last = _newest(config, workspace)
    interactions = tables[schema.INTERACTIONS.name]
    version = library_versions().get("recmeta")
    if (last.libraries.get("recmeta"), last.git_commit) != (version, git_commit()):
        raise InFull("another version of recmeta built the last tasks")
    if last.outputs.interactions_id != str(interactions.metadata().id):
        raise InFull("the table of interactions has been replaced")
    if any(last.inputs[name] > inputs[name] for name in tables):
        raise InFull("the tables are older than the last tasks")
    if losses(workspace, STEP, last):
        raise InFull("the last tasks are incomplete")
    tasks = TaskSet(workspace / last.outputs.tasks)
    if not tasks.folder.exists(LOG_FILE):
        raise InFull(
            f"with the split {tasks.spec.split!r} a new row may affect every user"
            if tasks.spec.split != "temporal"
            else "an earlier version built the last tasks"
        )
    name = last.outputs.tasks.rpartition("/")[-1]
    return Before(tasks=tasks, name=name, counts=last.counts), last.inputs


def _newest(config: BuildTasksConfig, workspace: Workspace) -> Manifest[BuildTasksOutputs]:
    """Return the manifest of the newest tasks that were built with these settings.

    Raises:
        InFull: if there are none.
    """
    settings = json.loads(json.dumps(to_dict(config)))
    key = latest_key(workspace, STEP)
    last = None if key is None else find(workspace, STEP, key)
    if last is not None and last.config == settings:
        return last
    everything = finished(workspace, STEP)
    same = [manifest for manifest in everything if manifest.config == settings]
    if not same:
        raise InFull(
            "the settings have changed" if everything else "these are the first tasks here"
        )
    return same[-1]


def _changed_users(workspace: Workspace, users: DeltaTable, before: Mapping[str, Any]) -> pl.Series:
    """Return the ids of the users whose attributes have changed.

    Raises:
        InFull: if their earlier values are gone, or they have other columns now.
    """
    if users.version() == before[schema.USERS.name]:
        return pl.Series(schema.USER_ID, [], pl.String)
    try:
        was, now = (
            pl.scan_delta(table).collect()
            for table in (opened(workspace, schema.USERS, before[schema.USERS.name]), users)
        )
    except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
        raise InFull("the users' earlier attributes are gone") from error
    if was.schema != now.schema:
        raise InFull("users have different attributes than before")
    lists = pl.selectors.list()
    was, now = (rows.with_columns(lists.list.join("\x1f")) for rows in (was, now))
    changed = [
        some.join(other, on=some.columns, how="anti", nulls_equal=True)[schema.USER_ID]
        for some, other in ((was, now), (now, was))
    ]
    return pl.concat(changed).unique()


def _require_logs(workspace: Workspace, tables: Mapping[str, DeltaTable]) -> None:
    """Raise Broken if a log was ingested into tables that have since been replaced: its rows are
    gone, and the tasks would be built without them."""
    lost = []
    for manifest in finished(workspace, as_stored(ingest.STEP)):  # one a day, for years
        digests = manifest.digests or {}
        for name, delta in tables.items():
            known = digests.get(f"tables/{name}", {}).get("id")
            version = manifest.outputs["tables"].get(name, 0)
            if (older := whole.predates(delta, known, version)) is not None:
                lost.append((manifest, f"the table {workspace.location}/tables/{name} {older}"))
                break
    if not lost:
        return
    raise Broken(
        f"{len(lost)} of the logs that were ingested here are not in the tables any more: "
        f"{lost[0][1]}. Ingest them again or, if you do not need them, delete their manifests: "
        + ", ".join(_manifest(workspace, manifest) for manifest, _ in lost)
        + "."
    )


def _manifest(workspace: Workspace, ingested: Manifest[Any]) -> str:
    """Return where a log's manifest is, and what identifies the log, since no path is kept."""
    place = f"{workspace.path}/manifests/{ingest.STEP}/{ingested.key}.json"
    rows = f"{ingested.counts['rows_read']:,} rows, " if "rows_read" in ingested.counts else ""
    return f"{place} ({rows}ingested {ingested.finished_at[:16]} UTC)"


def _publish(workspace: Workspace, statistics: ItemStatistics, item_id: pl.Series) -> int:
    """Replace the rows of the statistics' table, and return its version."""
    rows = as_table(statistics, item_id).to_arrow().cast(schema.ITEM_STATISTICS.columns)
    return overwrite(workspace, schema.ITEM_STATISTICS, rows)
