"""A task set: users' tasks, and the statistics of the items over time (`item_files`).

    spec.json            the description of the task set
    items.arrow          one row per version of an item: item number, valid from, raw attributes
    statistics.arrow     one row per snapshot: users who met each item before it, sum of their
                         values
    history-00000.arrow  one row per event that counts in them, in the order of time: see
        …                `item_files`
    SPLIT-00000.arrow …  one row per task
    refit-00000.arrow …  the same, from all rows before the cold users, if time is held out

A task row holds item *numbers* (positions in the sorted list of item ids) and values, ragged: no
padding on disk. Features are stored raw and encoded when they are read, by a model's encoder, so
that an old model can read a new task set.

A task set may be an increment: it has the tasks of some users, and those of all others are in
sibling folders that `spec.json` names (`recmeta.tasks.increments`). A reader sees no difference.

Legend: B tasks, R rows of one side, N rows of all tasks, T snapshots, I items.
"""

import copy
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc as ipc

from recmeta import schema
from recmeta.config import parse, to_dict
from recmeta.errors import UserError
from recmeta.tasks import scratch
from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray, offsets_of
from recmeta.tasks.increments.event_log import history
from recmeta.tasks.increments.parts import Part, events_of, tasks_of
from recmeta.tasks.item_files import (
    Items,
    ItemStatistics,
    attributes_of,
    read_history,
    read_items,
    read_statistics,
    read_table,
    stored_name,
    write_table,
)
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.split_config import SplitKind
from recmeta.workspace import Folder, sealed

Objective = Literal["rating", "implicit"]
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
REFIT: Final = "refit"
"""The name of the shards from which the final model learns once the development users have chosen,
if these are more than the training and the development tasks."""
SPEC_FILE: Final = "spec.json"
TASKS_AT_ONCE = 2**16
"""The tasks whose rows are worked on at once."""
FORMAT_VERSION = 1
NEWER_FORMAT = 2
"""The format of task sets that versions before increments would misread: increments, and histories
of two-level values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSetSpec:
    """The description that a reader needs before it opens a shard."""

    objective: Objective
    """`rating` if values are graded, or `implicit` if every row is a positive with value 1."""
    value_range: tuple[float, float]
    """The smallest and the largest value of the meta-training users."""
    num_items: int
    """The number of distinct items. Item numbers run from 0 to this, exclusive."""
    num_tasks: dict[str, int]
    """The number of tasks by split, and in `REFIT` if it exists."""
    num_shards: dict[str, int]
    """The number of Arrow shards by split, and of `REFIT` if it exists."""
    num_interactions: int
    """The number of rows of all supports and queries."""
    temporal: bool
    """Whether the support comes before the query in time."""
    split: SplitKind | None = None
    """The kind of split, or None in task sets of earlier versions, which do not record it."""
    num_history_files: int | None = None
    """The number of Arrow files of the items' history, or None in a task set of an earlier version,
    which has none."""
    taken_from: float | None = None
    """The lowest value of a take, if values have two levels, such as 0 and 1: the higher one. If
    None, every row is a take."""
    increment_of: tuple[str, ...] = ()
    """The sibling folders that this increment adds to, the base first; empty for a whole task
    set."""
    format_version: int = FORMAT_VERSION
    """The version of the format, which is raised when present readers could not read it."""


@dataclasses.dataclass(frozen=True)
class Ragged:
    """One side (support or query) of B tasks, laid end to end: task b owns rows
    offsets[b]:offsets[b+1]."""

    offsets: IntArray
    """(B + 1,)"""
    item: npt.NDArray[np.int32]
    """(N,) item numbers, in time order within a task if there are times."""
    value: Float32Array
    """(N,)"""
    counted: BoolArray
    """(N,) whether the row itself is part of its item's statistics at the task's snapshot."""

    @classmethod
    def from_lists(
        cls,
        items: list[list[int]],
        values: list[list[float]],
        counted: list[list[bool]] | None = None,
    ) -> "Ragged":
        """Return a side built from Python lists, one per task, for tests and small requests."""
        lengths = [len(row) for row in items]
        flags = counted if counted is not None else [[False] * n for n in lengths]
        return cls(
            offsets_of(lengths),
            np.array([i for row in items for i in row], np.int32),
            np.array([v for row in values for v in row], np.float32),
            np.array([c for row in flags for c in row], np.bool_),
        )

    @classmethod
    def asking(cls, item_Bk: IntArray) -> "Ragged":
        """Return k items for each of B users as queries, padded with item 0."""
        num_users, length = item_Bk.shape
        return cls(
            np.arange(num_users + 1) * length,
            np.maximum(item_Bk, 0).reshape(-1).astype(np.int32),
            np.zeros(item_Bk.size, np.float32),
            np.zeros(item_Bk.size, np.bool_),
        )

    @classmethod
    def joined(cls, parts: Iterable["Ragged"]) -> "Ragged":
        """Return the rows of all parts, one part's tasks after the other's. Many rows are not in
        memory (`scratch`), and neither are the parts, if they are made one by one."""
        growing = _GrowingRows()
        for part in parts:
            growing.append(part)
        return growing.done()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @functools.cached_property
    def lengths(self) -> IntArray:
        """(B,) the number of rows per task."""
        return np.diff(self.offsets)

    @property
    def task(self) -> IntArray:
        """(N,) the task that each row belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def position(self) -> IntArray:
        """(N,) the place of each row within its task, from 0."""
        return np.arange(self.offsets[0], self.offsets[-1]) - np.repeat(
            self.offsets[:-1], self.lengths
        )

    @property
    def mask(self) -> BoolArray:
        """(B, R) where a task has a row, padded to the longest."""
        lengths = self.lengths
        found: BoolArray = np.arange(lengths.max(initial=0)) < lengths[:, None]
        return found

    def select(self, keep: BoolArray) -> "Ragged":
        """Return the rows where `keep` (N,) is true, in the same tasks."""
        if len(self) > TASKS_AT_ONCE:
            starts = self.offsets[::TASKS_AT_ONCE] - self.offsets[0]
            parts = zip(self.batches(TASKS_AT_ONCE), starts, strict=False)
            return Ragged.joined(
                some.select(keep[first : first + len(some.item)]) for some, first in parts
            )
        lengths = np.bincount(self.task[keep], minlength=len(self))
        offsets = offsets_of(lengths)
        return Ragged(offsets, self.item[keep], self.value[keep], self.counted[keep])

    def taken(self, taken_from: float | None) -> "Ragged":
        """Return the rows that are takes.

        Args:
            taken_from: see `TaskSetSpec`.
        """
        return self if taken_from is None else self.select(self.value >= taken_from)

    def followed_by(self, other: "Ragged") -> "Ragged":
        """Return the rows of both, task by task, those of `other` after those of this one."""
        if len(self) > TASKS_AT_ONCE:
            parts = zip(self.batches(TASKS_AT_ONCE), other.batches(TASKS_AT_ONCE), strict=True)
            return Ragged.joined(mine.followed_by(others) for mine, others in parts)
        lengths_2B = np.stack([self.lengths, other.lengths], 1).reshape(-1)
        is_other_N = np.repeat(np.tile([False, True], len(self)), lengths_2B)

        def laid(own: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
            found = np.empty(len(is_other_N), np.result_type(own, others))
            found[~is_other_N], found[is_other_N] = own, others
            return found

        return Ragged(
            self.offsets - self.offsets[0] + other.offsets - other.offsets[0],
            laid(self.item, other.item),
            laid(self.value, other.value),
            laid(self.counted, other.counted),
        )

    def first(self, num_rows: int) -> "Ragged":
        """Return the first `num_rows` rows of every task, or all if it has fewer."""
        if len(self) > TASKS_AT_ONCE:
            return Ragged.joined(some.first(num_rows) for some in self.batches(TASKS_AT_ONCE))
        kept = np.minimum(self.lengths, num_rows)
        kept_2B = np.stack([kept, self.lengths - kept], 1).reshape(-1)
        is_kept_N = np.repeat(np.tile([True, False], len(self)), kept_2B)
        return Ragged(
            offsets_of(kept), self.item[is_kept_N], self.value[is_kept_N], self.counted[is_kept_N]
        )

    def batches(self, size: int) -> Iterator["Ragged"]:
        """Yield the tasks in order, `size` at a time, without copying their rows."""
        for start in range(0, len(self), size):
            offsets = self.offsets[start : start + size + 1]
            rows = slice(offsets[0] - self.offsets[0], offsets[-1] - self.offsets[0])
            yield Ragged(
                offsets - offsets[0], self.item[rows], self.value[rows], self.counted[rows]
            )

    def take(self, tasks: npt.NDArray[np.integer]) -> "Ragged":
        """Return the tasks at these positions, in this order."""
        lengths = self.lengths[tasks]
        offsets = offsets_of(lengths)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][tasks] - offsets[:-1], lengths)
        return Ragged(offsets, self.item[rows], self.value[rows], self.counted[rows])


class _GrowingRows:
    """One side of tasks that come part by part."""

    def __init__(self) -> None:
        self._length = scratch.Growing(np.int64)
        self._item, self._value = scratch.Growing(np.int32), scratch.Growing(np.float32)
        self._counted = scratch.Growing(np.bool_)

    def append(self, rows: Ragged) -> None:
        self._length.append(rows.lengths)
        self._item.append(rows.item)
        self._value.append(rows.value)
        self._counted.append(rows.counted)

    def done(self) -> Ragged:
        return Ragged(
            offsets_of(self._length.done()),
            self._item.done(),
            self._value.done(),
            self._counted.done(),
        )


@dataclasses.dataclass(frozen=True)
class Tasks:
    """B tasks: for each user, the known rows (support) and the rows to predict (query)."""

    profile: pa.Table
    """B rows: `user_id` and the user's raw attributes as known at the cut time."""
    cut_time: IntArray
    """(B,) microseconds since 1970 UTC; the support is not later, the query not earlier. int64's
    largest value if the log has no times, so that everything is known to the task."""
    snapshot: npt.NDArray[np.int32]
    """(B,) the snapshot of the item statistics that was known at the cut time."""
    state: npt.NDArray[np.str_]
    """(B,) `warm`, `user_cold`, `item_cold` or `user_and_item_cold` (Lee et al., KDD 2019)."""
    support: Ragged
    query: Ragged

    def __len__(self) -> int:
        return len(self.cut_time)

    @functools.cached_property
    def rows(self) -> Ragged:
        """All rows of each task, its query after its support."""
        return self.support.followed_by(self.query)

    @property
    def user_id(self) -> list[str]:
        """B user ids."""
        ids: list[str] = self.profile[schema.USER_ID].to_pylist()
        return ids

    def take(self, tasks: npt.NDArray[np.integer]) -> "Tasks":
        """Return the tasks at these positions, in this order."""
        return Tasks(
            self.profile.take(pa.array(tasks)),
            self.cut_time[tasks],
            self.snapshot[tasks],
            self.state[tasks],
            self.support.take(tasks),
            self.query.take(tasks),
        )

    @classmethod
    def joined(cls, parts: Iterable["Tasks"]) -> "Tasks":
        """Return the tasks of all parts, of which there is at least one, one part after the other.
        Many rows are not in memory, see `Ragged.joined`."""
        profiles, cut_times, snapshots, states = [], [], [], []
        support, query = _GrowingRows(), _GrowingRows()
        for part in parts:
            # Copies, which keep no part's file mapped.
            profiles.append(part.profile.take(pa.array(np.arange(len(part)))))
            cut_times.append(part.cut_time.copy())
            snapshots.append(part.snapshot.copy())
            states.append(part.state)
            support.append(part.support)
            query.append(part.query)
        return cls(
            pa.concat_tables(profiles).combine_chunks(),
            np.concatenate(cut_times),
            np.concatenate(snapshots),
            np.concatenate(states),
            support.done(),
            query.done(),
        )

    def with_shots(self, num_shots: int) -> "Tasks":
        """Return the same tasks with only the first `num_shots` support rows."""
        return dataclasses.replace(self, support=self.support.first(num_shots))

    def batches(self, size: int) -> Iterator["Tasks"]:
        """Yield the tasks in order, `size` at a time."""
        if 0 < len(self) <= size:
            yield self
            return
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))


class TaskSet:
    """An opened task set. A split is read when it is first asked for, and kept."""

    def __init__(self, folder: Folder) -> None:
        """
        Raises:
            UserError: for files of an earlier version in another format.
            Broken: if a file is missing or has changed; the methods that read raise it, too.
        """
        self.folder = sealed(folder)
        self.spec = _spec(self.folder)
        self._parts: dict[Split, tuple[str, ...]] = {s: (s,) for s in SPLITS}
        self._given: Mapping[Split, Tasks] = {}
        self._read: dict[Split, Tasks] = {}

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The task sets that it adds to, the base first, and itself last.

        Raises:
            Broken: if one of them is missing.
        """
        beside = Folder(self.folder.filesystem, os.path.dirname(self.folder.path))
        folders = [sealed(beside / name) for name in self.spec.increment_of]
        return tuple(
            Part(folder, spec.num_shards, spec.num_history_files or 0, spec.num_items)
            for folder, spec in ((f, _spec(f)) for f in (*folders, self.folder))
        )

    def joined(self) -> "TaskSet":
        """Return the task set with the development users among the training users, and no
        development users. If time is held out, it has all of their rows before the cold users'
        first ones."""
        joined = copy.copy(self)
        num = self.spec.num_tasks
        everybody = (REFIT,) if REFIT in num else ("train", "dev")
        joined._parts, joined._read = {"train": everybody, "dev": (), "test": ("test",)}, {}
        num_train = sum(num[part] for part in everybody)
        joined.spec = dataclasses.replace(
            self.spec, num_tasks={**num, "train": num_train, "dev": 0}
        )
        return joined

    def with_tasks(self, tasks: Mapping[Split, Tasks]) -> "TaskSet":
        """Return the task set with other tasks in some splits; its files, and all else that it
        says, stay as they are."""
        other = copy.copy(self)
        other._given = {**self._given, **tasks}
        return other

    def items(self) -> Items:
        """Return the catalogue with its raw attributes."""
        return read_items(self.folder)

    def statistics(self) -> ItemStatistics:
        """Return the items' statistics at every snapshot."""
        return read_statistics(self.folder)

    def history(self) -> ItemHistory:
        """Return every event that counts in the items' statistics and is a take.

        In a task set of an earlier version, the history is only as fine as the snapshots.
        """
        if self.spec.increment_of:
            events = [part.taken(self.spec.taken_from) for part in events_of(self.parts)]
            time, item = history(events)
            return ItemHistory(time=time, item=item, num_items=self.spec.num_items)
        if self.spec.num_history_files is not None:
            return read_history(
                self.folder,
                self.spec.num_history_files,
                self.spec.num_items,
                temporal=self.spec.temporal,
                taken_from=self.spec.taken_from,
            )
        statistics = self.statistics()
        if not self.spec.temporal:
            return ItemHistory.from_snapshots(None, statistics.num_users, 0)
        cut_times = [self.tasks(split).cut_time for split in SPLITS]
        newest = int(np.concatenate(cut_times).max(initial=schema.ALWAYS))
        return ItemHistory.from_snapshots(statistics.time, statistics.num_users, newest)

    def tasks(self, split: Split) -> Tasks:
        """Return all tasks of a split; an empty split has zero tasks."""
        if split in self._given:
            return self._given[split]
        if split not in self._read:
            tables = (table for name in self._parts[split] for table in self._tables(name))
            first = next(tables, None)
            self._read[split] = (
                self.tasks("train").take(np.zeros(0, np.int64))
                if first is None
                else Tasks.joined(map(_tasks_from_table, itertools.chain([first], tables)))
            )
        return self._read[split]

    def _tables(self, name: str) -> Iterator[pa.Table]:
        """Yield the tasks of the shards of a name."""
        if self.spec.increment_of:
            yield from tasks_of(self.parts, name, self.statistics().time)
            return
        for number in range(self.spec.num_shards[name]):
            yield read_table(self.folder, f"{name}-{number:05d}.arrow")


def _spec(folder: Folder) -> TaskSetSpec:
    found = parse(TaskSetSpec, folder.read_json(SPEC_FILE))
    if found.format_version not in (FORMAT_VERSION, NEWER_FORMAT):
        raise UserError(
            f"{folder.path} has task format {found.format_version}, this version reads "
            f"{NEWER_FORMAT} and less: build the tasks again with `recmeta build-tasks`."
        )
    return found


# Writing and reading the files -------------------------------------------------------------------

TASK_COLUMNS = (
    schema.CUT_TIME,
    schema.SNAPSHOT,
    schema.STATE,
    schema.SUPPORT_ITEM,
    schema.SUPPORT_VALUE,
    schema.SUPPORT_COUNTED,
    schema.QUERY_ITEM,
    schema.QUERY_VALUE,
    schema.QUERY_COUNTED,
)


def write_spec(folder: Folder, spec: TaskSetSpec) -> None:
    """Write spec.json. Call it last, since the file means that the others are complete."""
    folder.write_json(SPEC_FILE, to_dict(spec))


def write_shard(folder: Folder, split: str, index: int, table: pa.Table) -> None:
    """Write one shard: TASK_COLUMNS, `user_id` and raw user attributes by `stored_name`, a row per
    task."""
    write_table(folder, f"{split}-{index:05d}.arrow", table)


def write_tasks(folder: Folder, name: str, tasks: Tasks) -> None:
    """Write tasks into one file."""
    write_table(folder, name, _table_of(tasks))


def write_tasks_for_processes(folder: Folder, name: str, tasks: Tasks) -> None:
    """Write tasks into one file of a folder on this machine that has no digests, from wherever
    their rows are: they are not copied into memory first."""
    table = _table_of(tasks)
    os.makedirs(folder.local_path(), exist_ok=True)
    with (
        pa.OSFile(folder.local_path(name), "wb") as file,
        ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)


def _table_of(tasks: Tasks) -> pa.Table:
    columns: dict[str, pa.Array] = {
        schema.CUT_TIME: pa.array(tasks.cut_time, pa.int64()),
        schema.SNAPSHOT: pa.array(tasks.snapshot, pa.int32()),
        schema.STATE: pa.array(tasks.state, pa.string()),
    }
    sides = {
        (schema.SUPPORT_ITEM, schema.SUPPORT_VALUE, schema.SUPPORT_COUNTED): tasks.support,
        (schema.QUERY_ITEM, schema.QUERY_VALUE, schema.QUERY_COUNTED): tasks.query,
    }
    for names, side in sides.items():
        offsets = pa.array(side.offsets - side.offsets[0], pa.int32())
        for column, values in zip(names, (side.item, side.value, side.counted), strict=True):
            columns[column] = pa.ListArray.from_arrays(offsets, pa.array(values))
    profile = {
        stored_name(column, TASK_COLUMNS): tasks.profile[column]
        for column in tasks.profile.column_names
    }
    return pa.table(profile | columns)


def read_tasks(folder: Folder, name: str) -> Tasks:
    """Read a file of `write_tasks` or `write_tasks_for_processes`.

    Raises:
        Broken: if it has changed.
    """
    return _tasks_from_table(read_table(folder, name))


def _tasks_from_table(table: pa.Table) -> Tasks:
    """Return the tasks in a table. Rows in one piece stay in place, for example in a mapped file;
    those in several pieces are copied once."""

    def side(item: str, value: str, counted: str) -> Ragged:
        lengths = [np.diff(chunk.offsets.to_numpy()) for chunk in table[item].chunks]
        return Ragged(
            offsets_of(np.concatenate([np.zeros(0, np.int32), *lengths])),
            _flat(table[item], np.int32),
            _flat(table[value], np.float32),
            _flat(table[counted], np.bool_),
        )

    states = table[schema.STATE].combine_chunks().dictionary_encode()
    names = np.array(states.dictionary.to_pylist(), np.str_)  # only a few states
    return Tasks(
        attributes_of(table, TASK_COLUMNS).combine_chunks(),
        table[schema.CUT_TIME].to_numpy(),
        table[schema.SNAPSHOT].to_numpy(),
        names[states.indices.to_numpy()],
        side(schema.SUPPORT_ITEM, schema.SUPPORT_VALUE, schema.SUPPORT_COUNTED),
        side(schema.QUERY_ITEM, schema.QUERY_VALUE, schema.QUERY_COUNTED),
    )


def _flat(lists: pa.ChunkedArray, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the values of all lists, end to end."""
    is_plain = dtype != np.bool_  # Arrow packs eight booleans into a byte
    parts = (chunk.flatten().to_numpy(zero_copy_only=is_plain) for chunk in lists.chunks)
    return scratch.joined(parts, dtype)
