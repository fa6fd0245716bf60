"""What a base and its increments hold together, read as one task set.

A user's tasks are in the newest part that knows the user: they supersede those of older parts. What
depends on more than the user's own rows is not taken from the part's files but made again when they
are read: the items' numbers, the snapshot that a task reads, and which of its support rows that
snapshot holds.

    times-SPLIT-00000.arrow …   beside each shard: when the support rows of its tasks were

Legend: T snapshots, I items, N support rows of all tasks.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.increments.event_log import CHANGES_FILE, Changes
from recmeta.tasks.item_files import ITEM_NUMBER, history_file, read_items, read_table
from recmeta.workspace import Folder

USERS_FILE = "users.arrow"
"""The users whom a part knows, one row each, sorted by id."""
_TIME = "support_time"
Numbers = npt.NDArray[np.int32]
"""(I,) of items, by the numbers that they had."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A base, or one of its increments."""

    folder: Folder
    num_shards: Mapping[str, int]
    """By split."""
    num_history_files: int
    """0 of an increment."""
    num_items: int

    def numbers_among(self, item_id: pa.Array) -> Numbers | None:
        """Return (I,) the position of each item of this part among all of a later one; None where
        they are the same. Items come, and none goes."""
        if self.num_items == len(item_id):
            return None
        numbers: Numbers = pc.index_in(
            read_items(self.folder).item_id, value_set=item_id
        ).to_numpy()
        return numbers

    def user_id(self) -> pa.Array:
        """Return the ids of the users whom this part knows, sorted."""
        return read_table(self.folder, USERS_FILE)[schema.USER_ID].combine_chunks()

    def events(self) -> list[Changes]:
        """Return the events of each file of a base, or what an increment changed."""
        if not self.num_history_files:
            return [Changes.from_table(read_table(self.folder, CHANGES_FILE).combine_chunks())]
        names = (schema.TIMESTAMP, ITEM_NUMBER, schema.VALUE)
        tables = (
            read_table(self.folder, history_file(number)).combine_chunks()
            for number in range(self.num_history_files)
        )
        return [Changes.came(*(table[name].to_numpy() for name in names)) for table in tables]


def times_file(split: str, index: int) -> str:
    """Return the name of the file of the times of a shard's support rows."""
    return f"times-{split}-{index:05d}.arrow"


def times_table(time_N: IntArray) -> pa.Table:
    """Return what is in such a file, of the support rows of a shard's tasks, in their order."""
    return pa.table({schema.TIMESTAMP: pa.array(time_N, pa.int64())})


def numbers_of(parts: Sequence[Part]) -> list[Numbers | None]:
    """Return by part today's number of each of its items; None where it is the same."""
    if len({part.num_items for part in parts}) == 1:
        return [None] * len(parts)
    item_id = read_items(parts[-1].folder).item_id
    return [part.numbers_among(item_id) for part in parts]


def events_of(parts: Sequence[Part]) -> list[Changes]:
    """Return the events of the base and the changes of each increment, with the items' numbers of
    the newest part."""
    return [
        events.renumbered(number_I)
        for part, number_I in zip(parts, numbers_of(parts), strict=True)
        for events in part.events()
    ]


def tasks_of(parts: Sequence[Part], split: str, snapshot_times: IntArray) -> Iterator[pa.Table]:
    """Yield the tasks of a split, sorted by the users' ids, with the columns of a shard: piece by
    piece, as many as a shard of the base has, so that only the increments are in memory.

    Args:
        parts: a base and its increments, the oldest first.
        snapshot_times: (T,) of the item statistics as they are with all increments.
    """
    numbers = numbers_of(parts)
    added: list[pa.Table] = []
    superseded: list[pa.Array] = []
    for part, number_I in zip(reversed(parts[1:]), reversed(numbers[1:]), strict=True):
        shards = [_shard(part, split, index) for index in range(part.num_shards[split])]
        table = _without(pa.concat_tables(shards), superseded)
        added.append(_renumbered(table, number_I))
        superseded.append(part.user_id())
    newer = _by_user(added)
    base, num_shards, first = parts[0], parts[0].num_shards[split], 0
    for index in range(num_shards):
        shard = _shard(base, split, index)
        last = len(newer)
        if index < num_shards - 1:  # those beyond its last user belong to later shards
            before = pc.less_equal(newer[schema.USER_ID], shard[schema.USER_ID][-1])
            last = pc.sum(before, min_count=0).as_py()
        old = _renumbered(_without(shard, superseded), numbers[0])
        yield _as_of(_by_user([old, newer.slice(first, last - first)]), snapshot_times)
        first = last


def _without(table: pa.Table, superseded: Sequence[pa.Array]) -> pa.Table:
    """Return the tasks of users who are in no newer part."""
    if not superseded:
        return table
    newer = pa.concat_arrays(superseded)
    return table.filter(pc.invert(pc.is_in(table[schema.USER_ID], value_set=newer)))


def _by_user(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the tasks of all tables, sorted by the users' ids."""
    table = pa.concat_tables(tables)
    order = pc.sort_indices(table, sort_keys=[(schema.USER_ID, "ascending")])
    return table.take(order).combine_chunks()


def _shard(part: Part, split: str, index: int) -> pa.Table:
    """Return the tasks in one of a part's shards, with the times of their support rows."""
    table = read_table(part.folder, f"{split}-{index:05d}.arrow").combine_chunks()
    times = read_table(part.folder, times_file(split, index)).combine_chunks()
    offsets = table[schema.SUPPORT_ITEM].combine_chunks().offsets
    column = pa.ListArray.from_arrays(offsets, times[schema.TIMESTAMP].combine_chunks())
    return table.append_column(_TIME, column)


def _renumbered(table: pa.Table, number_I: Numbers | None) -> pa.Table:
    if number_I is None:
        return table
    table = table.combine_chunks()
    for name in (schema.SUPPORT_ITEM, schema.QUERY_ITEM):
        lists = table[name].combine_chunks()
        numbers = pa.array(number_I[lists.values.to_numpy()])
        column = pa.ListArray.from_arrays(lists.offsets, numbers)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _as_of(table: pa.Table, snapshot_times: IntArray) -> pa.Table:
    """Return tasks that read the newest snapshot that is not later than their cut times."""
    cut_time = table[schema.CUT_TIME].to_numpy()
    snapshot = np.searchsorted(snapshot_times, cut_time, side="right") - 1
    lists = table[_TIME].combine_chunks()
    length = np.diff(lists.offsets.to_numpy())
    counted = lists.flatten().to_numpy() < np.repeat(snapshot_times[snapshot], length)
    column = pa.ListArray.from_arrays(lists.offsets, pa.array(counted))
    table = table.set_column(
        table.column_names.index(schema.SUPPORT_COUNTED), schema.SUPPORT_COUNTED, column
    )
    column = pa.array(snapshot.astype(np.int32))
    table = table.set_column(table.column_names.index(schema.SNAPSHOT), schema.SNAPSHOT, column)
    return table.drop_columns([_TIME])
