"""interactions, users, items ──▶ tasks, wherever the rows come from: tables or frames in memory."""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import dataset

from recmeta import schema
from recmeta.errors import UserError
from recmeta.features.attributes import catalogue, profiles_as_of
from recmeta.features.item_statistics import (
    Events,
    StatisticsConfig,
    in_order,
    item_tallies,
    snapshot_times,
)
from recmeta.features.text_vectors import with_text_vectors
from recmeta.progress import Progress, silent
from recmeta.tasks.increments.build_state import BuildState, Levels, write_state
from recmeta.tasks.increments.parts import times_file, times_table
from recmeta.tasks.increments.tallies import ItemTallies, write_tallies
from recmeta.tasks.increments.user_rows import write_user_rows
from recmeta.tasks.item_files import (
    ItemStatistics,
    stored_name,
    write_history,
    write_items,
    write_statistics,
    write_table,
)
from recmeta.tasks.placing.placed_rows import PlacedRows
from recmeta.tasks.placing.shards import shards, task_table
from recmeta.tasks.placing.split_rows import SplitRows
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.splits.ids import count_ids
from recmeta.tasks.splits.interactions import ROWS_PER_BATCH, split_interactions
from recmeta.tasks.task_set import (
    FORMAT_VERSION,
    NEWER_FORMAT,
    REFIT,
    SPLITS,
    TASK_COLUMNS,
    Split,
    TaskSetSpec,
    write_shard,
    write_spec,
)
from recmeta.tasks.threads import in_threads
from recmeta.workspace import Folder, sealing


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildTasksConfig:
    """All settings that determine the tasks."""

    split: SplitConfig = SplitConfig()
    """How users and their rows are split."""
    statistics: StatisticsConfig = StatisticsConfig()
    """How finely in time the statistics of items are kept."""
    item_texts: tuple[str, ...] = ()
    """The free-text attributes of items, such as title and plot, that models read as a sentence
    vector (`text_vector`). This needs the extra `text`, but only where tasks are built."""
    seed: int = 0
    """The seed of the hashes that draw users, items and rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuiltTasks:
    """What was written, and what callers need of it."""

    spec: TaskSetSpec
    item_id: pl.Series
    """(I,) sorted."""
    statistics: ItemStatistics
    counts: dict[str, int]
    """The numbers of tasks by split, of users, items and interactions and, for implicit feedback,
    of rows that are not positives."""


def write_tasks(
    config: BuildTasksConfig,
    log: dataset.Dataset,
    users: pl.LazyFrame,
    items: pl.LazyFrame,
    folder: Folder,
    *,
    text_vectors: Folder,
    log_files: Collection[str] | None = None,
    progress: Progress = silent,
) -> BuiltTasks:
    """Write the task set of a log into a folder.

    Args:
        log: rows of the table `interactions`, in any order; fastest with `item_id` and `event`
            dictionary encoded.
        users: rows of the table `users`.
        items: rows of the table `items`.
        text_vectors: where the vectors of `item_texts` are kept.
        log_files: the files that the log's rows are in; the data with which a later build adds new
            rows is then written, too, if the split allows it. If None, no later build continues
            from this one.

    Raises:
        UserError: if the filters leave no task, or an option does not fit the log.
    """
    progress("numbering", 0, 1)
    item_id = _item_ids(log, items)
    split = split_interactions(
        log,
        item_id,
        items,
        config.split,
        config.seed,
        keep_raw=log_files is not None,
        progress=progress,
    )
    progress("statistics", 0, 1)
    tallies = _tallies(split, len(item_id), config.statistics)
    statistics = tallies.rounded()
    goes_on = log_files is not None and split.kind == "temporal"
    with sealing(folder) as place:
        write_statistics(place, statistics)
        levels = Levels.of(piece.value for piece in split.pieces("train"))
        taken_from = levels.taken_from(split.objective)
        events: Iterator[Events] = counted(split)
        if not split.temporal:
            events = (some.taken(taken_from) for some in events)
        num_files = write_history(place, in_order(events, statistics.time))
        progress("statistics", 1, 1)
        write_catalogue(place, config, item_id, items, text_vectors)
        spec, counts = _write_tasks(
            place, split, statistics, users, num_files, taken_from, goes_on, progress
        )
        if split.objective == "implicit":
            counts["not_positive"] = log.count_rows(filter=dataset.field(schema.VALUE) <= 0)
        if goes_on:
            assert log_files is not None
            _write_state(place, split, tallies, levels, log_files)
    return BuiltTasks(spec=spec, item_id=item_id, statistics=statistics, counts=counts)


def _write_state(
    folder: Folder,
    split: SplitRows,
    tallies: ItemTallies,
    levels: Levels,
    log_files: Collection[str],
) -> None:
    """Write the data with which a later build adds new rows."""
    elsewhere = itertools.chain(split.pieces("dev"), split.pieces("test"))
    levels = levels.with_values(Levels.of(piece.value for piece in elsewhere).value)
    write_state(folder, BuildState(files=tuple(sorted(log_files)), kinds=split.kinds), levels)
    write_tallies(folder, tallies)
    write_user_rows(folder, split.user_id, split.raw())


def write_catalogue(
    folder: Folder,
    config: BuildTasksConfig,
    item_id: pl.Series,
    items: pl.LazyFrame,
    text_vectors: Folder,
) -> None:
    """Write the items with their attributes.

    Args:
        item_id: (I,) sorted.
        items, text_vectors: see `write_tasks`.
    """
    described = catalogue(item_id, items)
    if config.item_texts:
        described = with_text_vectors(described, config.item_texts, text_vectors)
    write_items(folder, described)


def _item_ids(log: dataset.Dataset, items: pl.LazyFrame) -> pl.Series:
    """Return the sorted ids of all items that the log or the table of items knows."""
    of_items = items.select(schema.ITEM_ID).collect().to_series().to_arrow()
    of_log = (
        batch.column(0)
        for batch in log.to_batches(columns=[schema.ITEM_ID], batch_size=ROWS_PER_BATCH)
    )
    return count_ids(itertools.chain([of_items], of_log)).ids


def _tallies(split: SplitRows, num_items: int, config: StatisticsConfig) -> ItemTallies:
    """Return the items' statistics at every snapshot, not rounded."""
    column = split.times if split.temporal else None
    times = snapshot_times(split.num_events, column, num_items, config)
    return item_tallies(counted(split), times, num_items)


def counted(split: SplitRows) -> Iterator[Events]:
    """Yield the events that count: all events or, without times, those of the training users."""
    for piece in split.pieces(None if split.temporal else "train"):
        yield Events(piece.item, piece.value, piece.time if split.temporal else None)


def _write_tasks(
    folder: Folder,
    split: SplitRows,
    statistics: ItemStatistics,
    users: pl.LazyFrame,
    num_history_files: int,
    taken_from: float | None,
    goes_on: bool,
    progress: Progress,
) -> tuple[TaskSetSpec, dict[str, int]]:
    """Write the shards of all splits and the specification of the task set; return the latter and
    the counts.

    Raises:
        UserError: if nobody is left to meta-train on.
    """
    if split.num_tasks("train") == 0:
        raise UserError(
            "no user is left to meta-train on: ingest more users, or lower dev_share, test_share "
            "and min_interactions."
        )
    of = {name: (split, name) for name in SPLITS} | _of_refit(split)
    num_tasks = {name: rows.num_tasks(place) for name, (rows, place) in of.items()}
    num_shards: dict[str, int] = {}
    num_items, num_written = statistics.num_users.shape[1], 0
    lowest, highest = np.inf, -np.inf
    progress("writing", 0, sum(num_tasks.values()))
    for name, (rows, place) in of.items():
        num_shards[name] = 0
        written = write_split(
            folder,
            name,
            rows.pieces(place),
            rows.user_id,
            statistics,
            users,
            temporal=rows.temporal,
            with_times=goes_on,
        )
        for shard in written:
            num_shards[name] += 1
            num_written += len(shard)
            progress("writing", num_written, sum(num_tasks.values()))
            if name == "train":
                lowest = min(lowest, float(shard.value.min()))
                highest = max(highest, float(shard.value.max()))
    spec = TaskSetSpec(
        objective=split.objective,
        value_range=(lowest, highest),
        num_items=num_items,
        num_tasks=num_tasks,
        num_shards=num_shards,
        num_interactions=split.num_rows,
        temporal=split.temporal,
        split=split.kind,
        num_history_files=num_history_files,
        taken_from=taken_from,
        format_version=FORMAT_VERSION if taken_from is None or not split.temporal else NEWER_FORMAT,
    )
    write_spec(folder, spec)
    return spec, {
        **{f"tasks_{name}": num_tasks[name] for name in SPLITS},
        "users": split.num_users,
        "items": num_items,
        "interactions": split.num_rows,
    }


def _of_refit(split: SplitRows) -> dict[str, tuple[SplitRows, Split]]:
    """Return the rows from which the final model learns, and their place among them, by the name of
    their shards; nothing if these are the training and the development tasks."""
    return {} if split.refit is None else {REFIT: (split.refit, "train")}


def write_split(
    folder: Folder,
    name: str,
    tasks: Iterable[PlacedRows],
    user_id: pa.Array,
    statistics: ItemStatistics,
    users: pl.LazyFrame,
    *,
    temporal: bool,
    with_times: bool,
) -> Iterator[PlacedRows]:
    """Write tasks as shards of this name, and yield each one that is written.

    Args:
        user_id: ids by the numbers of the tasks' users.
        with_times: whether to write beside each when its support rows were.
    """

    def write(numbered: tuple[int, PlacedRows]) -> PlacedRows:
        index, shard = numbered
        table = task_table(shard, statistics.time, temporal=temporal)
        theirs = user_id.take(pa.array(shard.user))
        write_shard(folder, name, index, _with_profiles(table, theirs, users))
        if with_times:
            times = shard.time[~shard.is_query(temporal=temporal)]
            write_table(folder, times_file(name, index), times_table(times))
        return shard

    return in_threads(write, enumerate(shards(tasks)))


def _with_profiles(table: pa.Table, user_id: pa.Array, users: pl.LazyFrame) -> pa.Table:
    """Return the tasks with their users' ids and attributes as known at each one's cut time."""
    tasks = pl.DataFrame(
        {
            schema.USER_ID: pl.from_arrow(user_id),
            schema.CUT_TIME: pl.from_arrow(table[schema.CUT_TIME]),
        }
    )
    profile = schema.with_plain_types(profiles_as_of(tasks, users).to_arrow())
    for name in profile.column_names:
        table = table.append_column(stored_name(name, TASK_COLUMNS), profile[name])
    return table
