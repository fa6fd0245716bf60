"""The shards of a task set, made from placed rows.

Legend: N rows, T tasks, S snapshots.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.tasks.arrays import IntArray, offsets_of
from recmeta.tasks.placing.placed_rows import PLACES, PlacedRows, concatenate

TASKS_PER_SHARD = 50_000


def shards(pieces: Iterable[PlacedRows]) -> Iterator[PlacedRows]:
    """Yield the same tasks in the same order, TASKS_PER_SHARD at a time.

    The last shard has the rest. It is empty only if there is no task at all.
    """
    waiting: list[PlacedRows] = []
    num_waiting, any_full = 0, False
    for piece in pieces:
        first = 0
        while first < len(piece):
            last = min(len(piece), first + TASKS_PER_SHARD - num_waiting)
            waiting.append(piece.tasks(first, last))
            num_waiting += last - first
            first = last
            if num_waiting == TASKS_PER_SHARD:
                yield concatenate(waiting)
                waiting, num_waiting, any_full = [], 0, True
    if waiting or not any_full:
        yield concatenate(waiting)


def task_table(tasks: PlacedRows, snapshot_times: IntArray, *, temporal: bool) -> pa.Table:
    """Return T tasks with the columns `task_set.TASK_COLUMNS`.

    In a temporal task set, every row counts in its item's statistics from its own time on, and a
    task reads the newest snapshot that is not later than its first query row. In other task sets,
    the rows of the meta-training users always count.

    Args:
        snapshot_times: (S,) the times of the snapshots of the statistics, ascending.
    """
    is_query = tasks.is_query(temporal=temporal)
    if temporal:
        first_query = tasks.offsets[:-1] + tasks.num_support
        cut_time = tasks.time[first_query]
        snapshot = np.searchsorted(snapshot_times, cut_time, side="right") - 1
        counted = tasks.time < np.repeat(snapshot_times[snapshot], tasks.num_kept)
    else:
        cut_time = np.full(len(tasks), schema.END_OF_TIME)
        snapshot = np.full(len(tasks), len(snapshot_times) - 1)
        is_training = np.array([place.split == "train" for place in PLACES])
        counted = np.repeat(is_training[tasks.place], tasks.num_kept)
    states = pa.array([place.state for place in PLACES])
    columns = {
        schema.STATE: states.take(pa.array(tasks.place)),
        schema.CUT_TIME: pa.array(cut_time, pa.int64()),
        schema.SNAPSHOT: pa.array(snapshot.astype(np.int32)),
    }
    sides = {
        (schema.SUPPORT_ITEM, schema.SUPPORT_VALUE, schema.SUPPORT_COUNTED): ~is_query,
        (schema.QUERY_ITEM, schema.QUERY_VALUE, schema.QUERY_COUNTED): is_query,
    }
    for (names, chosen), lengths in zip(
        sides.items(), (tasks.num_support, tasks.num_query), strict=True
    ):
        offsets = pa.array(offsets_of(lengths), pa.int32())
        for name, values in zip(names, (tasks.item, tasks.value, counted), strict=True):
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(values[chosen]))
    return pa.table(columns)
