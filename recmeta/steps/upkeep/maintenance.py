"""Housekeeping of the tables: small files are merged, and files that nobody needs are deleted.

Never deleted: interactions, quarantine (a log row is never lost), models, and every version of a
table that a registered model was trained on, so that it can be rebuilt.
"""

import contextlib
import dataclasses
import datetime
import functools

import polars as pl
import pyarrow.fs as pafs

from recmeta import schema
from recmeta.errors import UserError
from recmeta.logs import tables
from recmeta.logs.events.opening import event_store
from recmeta.manifest import find, finished, forget
from recmeta.records.step_definition import as_stored
from recmeta.registry import tracking
from recmeta.registry.models import versions
from recmeta.steps.serving import adapt, publish, score
from recmeta.workspace import Workspace, writes

MIN_FILES = 16
"""Tables of fewer files are left unchanged, since a compaction is a new version of the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaintenanceConfig:
    """How long data is kept."""

    vacuum_days: int = 7
    """Files that no version of a table needs are deleted when they are older than this; readers of
    older versions, and slower writers, would miss them."""
    recommendation_days: int = 90
    """Lists older than this are deleted, whether published or not."""
    recommendation_runs: int | None = None
    """Of the runs whose lists are published for no day, such as those of `recmeta score`, this many
    of the newest are kept, and those of the last 24 hours, which may wait to be published. If None,
    all that are younger than `recommendation_days`."""
    state_days: int = 14
    """Adapted users' states and capsules older than this are deleted; scoring these users again
    adapts the model again. Files of runs of adapt and score that were killed this long ago and
    never resumed are deleted, too."""
    event_days: int = 14
    """Events that the endpoint kept are deleted there when they have been in the log for this long.
    Until then requests read them, even if the server has not read the newest log."""

    def __post_init__(self) -> None:
        for name in ("vacuum_days", "recommendation_days", "state_days", "event_days"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1 day.")
        if self.recommendation_runs is not None and self.recommendation_runs < 0:
            raise UserError(
                f"recommendation_runs is {self.recommendation_runs}; it must not be negative."
            )


def existing_tables(workspace: Workspace) -> list[schema.Table]:
    """Return the tables that are there."""
    return [t for t in schema.TABLES if tables.is_there(workspace, t)]


@writes
def expire(
    workspace: Workspace,
    config: MaintenanceConfig | None = None,
    *,
    now: datetime.datetime | None = None,
) -> dict[str, int]:
    """Delete expired lists, user states and capsules.

    Args:
        now: if None, the current time.

    Returns:
        Rows of lists, folders of states, and folders of runs that never ended deleted; and rows of
        capsules and events, where there are such.
    """
    config = config or MaintenanceConfig()
    clock = now or datetime.datetime.now(datetime.UTC)
    found = {
        "recommendations": _expire_lists(workspace, clock, config),
        "states": _expire_states(workspace, clock, config.state_days),
        "unfinished": _expire_unfinished(workspace, clock, config.state_days),
    }
    if tables.is_there(workspace, schema.USER_CAPSULES):
        found["capsules"] = _expire_capsules(workspace, clock, config.state_days)
    store = event_store(workspace)
    if store is not None:
        with contextlib.closing(store):
            found["events"] = store.expire(clock - datetime.timedelta(days=config.event_days))
    return found


@writes
def optimise(workspace: Workspace, min_files: int = MIN_FILES) -> dict[str, int]:
    """Merge the small files of each table.

    Returns:
        How many files fewer each table has that was touched.
    """
    fewer = {}
    for table in existing_tables(workspace):
        removed = tables.redo(workspace, functools.partial(_compact, workspace, table, min_files))
        if removed is not None:
            fewer[table.name] = removed
    return fewer


def _compact(workspace: Workspace, table: schema.Table, min_files: int) -> int | None:
    """Return how many files fewer a table has; None if it has too few to be compacted."""
    delta = tables.open_table(workspace, table)
    if len(delta.file_uris()) < min_files:
        return None
    metrics = delta.optimize.compact()
    return int(metrics["numFilesRemoved"] - metrics["numFilesAdded"])


@writes
def vacuum(workspace: Workspace, config: MaintenanceConfig | None = None) -> dict[str, int]:
    """Delete the files of each table that no version needs which is recent or trained a model, and
    those of writers that were killed before their commit, once they are as old.

    Returns:
        How many files of each table were deleted.
    """
    config = config or MaintenanceConfig()
    trained_on = _versions_of_models(workspace)
    deleted = {}
    for table in existing_tables(workspace):
        delta = tables.opened(workspace, table)
        earliest = min((v["version"] for v in delta.history()), default=0)
        keep = [v for v in trained_on.get(table.name, []) if v >= earliest]
        arguments = {
            "retention_hours": config.vacuum_days * 24,
            "enforce_retention_duration": config.vacuum_days >= 7,
            "keep_versions": keep or None,
            "full": True,  # files that no version ever had, too
        }
        if delta.vacuum(dry_run=True, **arguments):  # or else it would be a new version for nothing
            deleted[table.name] = len(delta.vacuum(dry_run=False, **arguments))
    return deleted


def _versions_of_models(workspace: Workspace) -> dict[str, list[int]]:
    """Return by table which of its versions a registered model was trained on."""
    found: dict[str, set[int]] = {}
    for version in versions.versions(workspace):
        if version.run_id is None:
            continue
        for name, value in tracking.data_versions(workspace, version.run_id).items():
            if value.isdigit():
                found.setdefault(name, set()).add(int(value))
    return {name: sorted(numbers) for name, numbers in found.items()}


def _expire_lists(workspace: Workspace, now: datetime.datetime, config: MaintenanceConfig) -> int:
    """Delete the lists of runs that are too old, or too many, and return how many rows there
    were."""
    if not tables.is_there(workspace, schema.RECOMMENDATIONS):
        return 0
    lists = tables.scan(workspace, schema.RECOMMENDATIONS)
    last = lists.group_by(schema.RUN).agg(pl.col(schema.SCORED_AT).max())
    runs = last.sort(schema.SCORED_AT, schema.RUN, descending=True).collect()
    limit = now - datetime.timedelta(days=config.recommendation_days)
    old = runs.filter(pl.col(schema.SCORED_AT) < limit)[schema.RUN]
    has_days = tables.is_there(workspace, schema.PUBLISHED)
    if has_days and len(old):
        named = ", ".join(f"'{run}'" for run in old.sort())
        tables.delete(workspace, schema.PUBLISHED, f"{schema.RUN} IN ({named})")
    deleted = set(old)
    if config.recommendation_runs is not None:
        published = tables.empty(schema.PUBLISHED)
        if has_days:
            published = tables.scan(workspace, schema.PUBLISHED).collect()
        of_no_day = runs.join(published, on=schema.RUN, how="anti", maintain_order="left")
        further = of_no_day[config.recommendation_runs :]
        waited = pl.col(schema.SCORED_AT) < now - datetime.timedelta(days=1)
        deleted |= set(further.filter(waited)[schema.RUN])
    return publish.delete_runs(workspace, sorted(deleted))


def _expire_states(workspace: Workspace, now: datetime.datetime, days: int) -> int:
    limit = now - datetime.timedelta(days=days)
    deleted = 0
    for manifest in finished(workspace, adapt.STEP):
        if datetime.datetime.fromisoformat(manifest.finished_at) < limit:
            forget(workspace, adapt.STEP, manifest.key)
            folder = workspace / manifest.outputs.states
            folder.filesystem.delete_dir(folder.path)
            deleted += 1
    return deleted


def _expire_capsules(workspace: Workspace, now: datetime.datetime, days: int) -> int:
    """Delete the capsules of runs that are too old, and return how many there were."""
    capsules = tables.scan(workspace, schema.USER_CAPSULES)
    is_old = pl.col(schema.ADAPTED_AT) < now - datetime.timedelta(days=days)
    runs = capsules.filter(is_old).select(schema.RUN).unique().collect()[schema.RUN].sort()
    if not len(runs):
        return 0
    named = ", ".join(f"'{run}'" for run in runs)
    return tables.delete(workspace, schema.USER_CAPSULES, f"{schema.RUN} IN ({named})")


def _expire_unfinished(workspace: Workspace, now: datetime.datetime, days: int) -> int:
    """Delete the shards of runs that have no manifest and have written nothing for a number of
    days."""
    limit = now - datetime.timedelta(days=days)
    deleted = 0
    for step, parent in ((adapt.STEP, workspace / "states"), (score.STEP, workspace / "lists")):
        for key in parent.names():
            folder = parent / key
            selector = pafs.FileSelector(folder.path, recursive=True)
            written = [f.mtime for f in folder.filesystem.get_file_info(selector) if f.mtime]
            is_old = max(written, default=now) < limit
            if is_old and find(workspace, as_stored(step), key) is None:
                folder.filesystem.delete_dir(folder.path)
                deleted += 1
    return deleted
