"""interactions, users, items ──▶ tasks: a task set in Arrow shards, and the table of the statistics
of items that they read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import polars as pl
from deltalake import DeltaTable

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import Broken
from recmeta.features.item_statistics import as_table
from recmeta.features.text_vectors import MODEL
from recmeta.logs import whole
from recmeta.logs.tables import as_dataset, overwrite, sources_id
from recmeta.logs.whole import TableVersions
from recmeta.manifest import Folders, Manifest, Step, finished, run_once
from recmeta.progress import Progress, silent
from recmeta.steps.data import ingest
from recmeta.steps.parts.task_building import BuildTasksConfig, write_tasks
from recmeta.tasks.item_files import ItemStatistics
from recmeta.tasks.task_set import Objective
from recmeta.workspace import Workspace, writes

SOURCES = "sources"
TEXT_VECTORS = f"text_vectors/{MODEL}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildTasksOutputs:
    """What build-tasks leaves."""

    tasks: str
    """Folder of the task set, in the workspace."""
    objective: Objective
    """Of the feedback."""
    temporal: bool
    """Whether the log has times, so that tasks are cut by them."""
    item_statistics: int
    """Version of the table."""
    interactions_id: str
    """Id of the table of interactions, which tells its versions from those of another."""


STEP = Step(
    "build-tasks",
    BuildTasksOutputs,
    leaves=(
        Folders(lambda outputs: [outputs.tasks]),
        TableVersions(lambda outputs: {schema.ITEM_STATISTICS: outputs.item_statistics}),
    ),
)


@writes
def run(
    config: BuildTasksConfig, workspace: Workspace, *, progress: Progress = silent
) -> Manifest[BuildTasksOutputs]:
    """Build the task set of the tables as they stand; nothing is done if it is there.

    Raises:
        UserError: when nothing has been ingested, or the filters leave no task.
    """
    tables = {
        t.name: whole.check(workspace, t) for t in (schema.INTERACTIONS, schema.USERS, schema.ITEMS)
    }
    _require_logs(workspace, tables)
    inputs: dict[str, Any] = {name: table.version() for name, table in tables.items()}
    # Tells these versions from another workspace's, where both keep their models in one MLflow.
    inputs[SOURCES] = sources_id(tables[schema.INTERACTIONS.name])

    def work(key: str) -> tuple[BuildTasksOutputs, dict[str, int]]:
        log = as_dataset(
            workspace,
            schema.INTERACTIONS,
            tables[schema.INTERACTIONS.name],
            encoded=(schema.ITEM_ID, schema.EVENT),
        )
        users, items = (pl.scan_delta(tables[t.name]) for t in (schema.USERS, schema.ITEMS))
        built = write_tasks(
            config,
            log,
            users,
            items,
            workspace / "tasks" / key,
            text_vectors=workspace / TEXT_VECTORS,
            progress=progress,
        )
        outputs = BuildTasksOutputs(
            tasks=f"tasks/{key}",
            objective=built.spec.objective,
            temporal=built.spec.temporal,
            item_statistics=_publish(workspace, built.statistics, built.item_id),
            interactions_id=str(tables[schema.INTERACTIONS.name].metadata().id),
        )
        return outputs, built.counts

    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def _require_logs(workspace: Workspace, tables: Mapping[str, DeltaTable]) -> None:
    """Raise Broken where a log was ingested into tables that are not these any more: its rows are
    gone, and the tasks would be built without them."""
    lost = []
    for manifest in finished(workspace, ingest.STEP):
        digests = manifest.digests or {}
        for name, delta in tables.items():
            known = digests.get(f"tables/{name}", {}).get("id")
            version = manifest.outputs.tables.get(name, 0)
            if (older := whole.predates(delta, known, version)) is not None:
                lost.append((manifest, f"the table {workspace.location}/tables/{name} {older}"))
                break
    if not lost:
        return
    raise Broken(
        f"{len(lost)} of the logs that were ingested here are not in the tables any more: "
        f"{lost[0][1]}. Ingest them again; or, should they not be missed, delete their manifests: "
        + ", ".join(_manifest(workspace, manifest) for manifest, _ in lost)
        + "."
    )


def _manifest(workspace: Workspace, ingested: Manifest[Any]) -> str:
    """Return where a log's manifest is, and what tells the log from others: no path is kept."""
    place = f"{workspace.path}/manifests/{ingest.STEP}/{ingested.key}.json"
    rows = f"{ingested.counts['rows_read']:,} rows, " if "rows_read" in ingested.counts else ""
    return f"{place} ({rows}ingested {ingested.finished_at[:16]} UTC)"


def _publish(workspace: Workspace, statistics: ItemStatistics, item_id: pl.Series) -> int:
    """Make the statistics the rows of their table, and return its version."""
    rows = as_table(statistics, item_id).to_arrow().cast(schema.ITEM_STATISTICS.columns)
    return overwrite(workspace, schema.ITEM_STATISTICS, rows)
