"""interactions, users, items ──▶ tasks: a task set in Arrow shards, and the table of the statistics
of items that they read."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from recmeta import schema
from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.features.attributes import catalogue, profiles_as_of
from recmeta.features.item_statistics import (
    StatisticsConfig,
    as_table,
    item_statistics,
    snapshot_times,
)
from recmeta.logs.tables import sources_id
from recmeta.manifest import Manifest, run_once
from recmeta.progress import Progress, silent
from recmeta.tasks.splits import (
    IS_QUERY,
    ITEM,
    USER,
    SplitConfig,
    SplitRows,
    split_interactions,
)
from recmeta.tasks.task_set import (
    SPLITS,
    ItemStatistics,
    TaskSetSpec,
    write_items,
    write_shard,
    write_spec,
    write_statistics,
)
from recmeta.workspace import Folder, Workspace

STEP = "build-tasks"
TASKS_PER_SHARD = 50_000
COUNTED = "counted"
SOURCES = "sources"
END_OF_TIME = int(np.iinfo(np.int64).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildTasksConfig:
    """Everything that decides what the tasks are."""

    split: SplitConfig = SplitConfig()
    """Users and their rows."""
    statistics: StatisticsConfig = StatisticsConfig()
    """How finely the items' past is kept."""
    seed: int = 0
    """Of the hashes that draw users, items and rows."""


def run(config: BuildTasksConfig, workspace: Workspace, *, progress: Progress = silent) -> Manifest:
    """Build the task set of the tables as they stand; nothing is done if it is there.

    Raises:
        UserError: when nothing has been ingested, or the filters leave no task.
    """
    tables = {
        t.name: _table(workspace, t) for t in (schema.INTERACTIONS, schema.USERS, schema.ITEMS)
    }
    inputs: dict[str, Any] = {name: table.version() for name, table in tables.items()}
    # Tells these versions from another workspace's, where both keep their models in one MLflow.
    inputs[SOURCES] = sources_id(tables[schema.INTERACTIONS.name])

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        folder = workspace / "tasks" / key
        progress(STEP, 0, 3)
        frames = {name: pl.scan_delta(table) for name, table in tables.items()}
        item_id = (
            pl.concat([frames[n].select(schema.ITEM_ID) for n in ("interactions", "items")])
            .unique()
            .sort(schema.ITEM_ID)
            .collect()
            .to_series()
        )
        split = split_interactions(
            frames["interactions"], item_id, frames["items"], config.split, config.seed
        )
        progress(STEP, 1, 3)
        statistics, tasks = _with_statistics(split, len(item_id), config.statistics)
        progress(STEP, 2, 3)
        write_deltalake(
            workspace.table_uri(schema.ITEM_STATISTICS),
            as_table(statistics, item_id).to_arrow().cast(schema.ITEM_STATISTICS.columns),
            mode="overwrite",
        )
        write_statistics(folder, statistics)
        write_items(folder, catalogue(item_id, frames["items"]))
        counts = _write_tasks(folder, split, tasks, frames["users"], len(item_id))
        progress(STEP, 3, 3)
        outputs = {
            "tasks": f"tasks/{key}",
            "objective": split.objective,
            "temporal": split.temporal,
            schema.ITEM_STATISTICS.name: _table(workspace, schema.ITEM_STATISTICS).version(),
            schema.INTERACTIONS_ID: str(tables[schema.INTERACTIONS.name].metadata().id),
        }
        return outputs, counts

    return run_once(workspace, STEP, config=to_dict(config), inputs=inputs, work=work)


def _table(workspace: Workspace, table: schema.Table) -> DeltaTable:
    uri = workspace.table_uri(table)
    if not DeltaTable.is_deltatable(uri):
        raise UserError(
            f"the workspace {workspace.location} has no {table.name} table: ingest a log first, "
            "with `recmeta ingest`."
        )
    return DeltaTable(uri)


def _with_statistics(
    split: SplitRows, num_items: int, config: StatisticsConfig
) -> tuple[ItemStatistics, pl.DataFrame]:
    """Return the items' statistics and the rows with each one's snapshot, cut time and `counted`.

    In a temporal task set every row counts from its own time on. Elsewhere the rows of the
    meta-training users count, always; a reader takes a task's own rows out again.
    """
    rows = split.rows
    task = [USER, schema.STATE, schema.SPLIT]
    time: npt.NDArray[np.int64] | None = None
    if split.temporal:
        counting = rows
        time = rows[schema.TIMESTAMP].to_numpy()
        times = snapshot_times(time, num_items, config)
        cut = pl.col(schema.TIMESTAMP).filter(IS_QUERY).min().over(task)
        rows = rows.with_columns(cut.alias(schema.CUT_TIME))
        snapshot = np.searchsorted(times, rows[schema.CUT_TIME].to_numpy(), side="right") - 1
        counted = time < times[snapshot]
    else:
        counting = rows.filter(pl.col(schema.SPLIT) == "train")
        times = snapshot_times(None, num_items, config)
        rows = rows.with_columns(pl.lit(END_OF_TIME).alias(schema.CUT_TIME))
        snapshot = np.full(len(rows), len(times) - 1)
        counted = (rows[schema.SPLIT] == "train").to_numpy()
    statistics = item_statistics(
        counting[ITEM].to_numpy(), counting[schema.VALUE].to_numpy(), time, times, num_items
    )
    return statistics, rows.with_columns(
        pl.Series(schema.SNAPSHOT, snapshot.astype(np.int32)), pl.Series(COUNTED, counted)
    )


def _write_tasks(
    folder: Folder, split: SplitRows, rows: pl.DataFrame, users: pl.LazyFrame, num_items: int
) -> dict[str, int]:
    def side(column: str, query: bool, name: str) -> pl.Expr:
        chosen = pl.col(IS_QUERY) if query else ~pl.col(IS_QUERY)
        return pl.col(column).filter(chosen).alias(name)

    tasks = rows.group_by([schema.SPLIT, schema.STATE, USER], maintain_order=True).agg(
        pl.col(schema.CUT_TIME).first(),
        pl.col(schema.SNAPSHOT).first(),
        side(ITEM, False, schema.SUPPORT_ITEM),
        side(schema.VALUE, False, schema.SUPPORT_VALUE),
        side(COUNTED, False, schema.SUPPORT_COUNTED),
        side(ITEM, True, schema.QUERY_ITEM),
        side(schema.VALUE, True, schema.QUERY_VALUE),
        side(COUNTED, True, schema.QUERY_COUNTED),
    )
    tasks = tasks.with_columns(split.user_id.gather(tasks[USER]).alias(schema.USER_ID)).drop(USER)
    num_shards: dict[str, int] = {}
    num_tasks: dict[str, int] = {}
    for name in SPLITS:
        part = tasks.filter(pl.col(schema.SPLIT) == name).drop(schema.SPLIT)
        num_tasks[name] = len(part)
        num_shards[name] = max(1, -(-len(part) // TASKS_PER_SHARD))
        for index in range(num_shards[name]):
            shard = part.slice(index * TASKS_PER_SHARD, TASKS_PER_SHARD)
            profile = profiles_as_of(shard.select(schema.USER_ID, schema.CUT_TIME), users)
            write_shard(folder, name, index, _arrow(shard, profile))
    if num_tasks["train"] == 0:
        raise UserError(
            "no user is left to meta-train on: ingest more users, or lower dev_share, test_share "
            "and min_interactions."
        )
    training = rows.filter(pl.col(schema.SPLIT) == "train")[schema.VALUE]
    write_spec(
        folder,
        TaskSetSpec(
            objective=split.objective,
            value_range=(float(training.to_numpy().min()), float(training.to_numpy().max())),
            num_items=num_items,
            num_tasks=num_tasks,
            num_shards=num_shards,
            num_interactions=len(rows),
            temporal=split.temporal,
        ),
    )
    return {
        **{f"tasks_{name}": count for name, count in num_tasks.items()},
        "users": rows[USER].n_unique(),
        "items": num_items,
        "interactions": len(rows),
    }


def _arrow(shard: pl.DataFrame, profile: pl.DataFrame) -> pa.Table:
    """Return a shard in the narrow types of the format: 4-byte items and values, 1-bit flags."""
    attributes = schema.with_plain_types(profile.to_arrow())
    narrow = pa.schema(
        [
            (schema.STATE, pa.string()),
            (schema.CUT_TIME, pa.int64()),
            (schema.SNAPSHOT, pa.int32()),
            (schema.SUPPORT_ITEM, pa.list_(pa.int32())),
            (schema.SUPPORT_VALUE, pa.list_(pa.float32())),
            (schema.SUPPORT_COUNTED, pa.list_(pa.bool_())),
            (schema.QUERY_ITEM, pa.list_(pa.int32())),
            (schema.QUERY_VALUE, pa.list_(pa.float32())),
            (schema.QUERY_COUNTED, pa.list_(pa.bool_())),
        ]
    )
    table = shard.select(narrow.names).to_arrow().cast(narrow)
    for name in attributes.column_names:
        table = table.append_column(name, attributes[name])
    return table
