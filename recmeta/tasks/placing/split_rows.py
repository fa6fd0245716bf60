"""The tasks of a whole log, most of it on disk."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.placing.placed_rows import (
    PLACES,
    ROW_COLUMNS,
    TASK_COLUMNS,
    WITHHELD,
    PlacedRows,
)
from recmeta.tasks.placing.placement import ROW, Rows
from recmeta.tasks.placing.row_files import RowFiles
from recmeta.tasks.split_config import TEMPORAL, SplitKind
from recmeta.tasks.task_set import Objective
from recmeta.tasks.threads import in_threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRows:
    """Every interaction that belongs to a task, with its role there, and those that only count in
    the items' past, in a place of their own.

    The rows are in files, each with those of some users; `pieces` reads them in order.
    """

    user_id: pa.Array
    """The sorted ids. A user's number is the position."""
    objective: Objective
    kind: SplitKind
    """The kind of split."""
    parts: list[PlacedRows]
    """The tasks, without their rows, in parts with some users each, by user."""
    files: RowFiles
    kinds: tuple[str, ...] = ()
    """All kinds of event in the log, sorted. A kind's number is the position."""
    num_raw_parts: int = 0
    """The number of parts of the raw rows, if these were kept: see `raw`."""
    refit: "SplitRows | None" = None
    """The training tasks from which the final model learns once the development users have chosen,
    or None for the training and the development tasks themselves."""

    @property
    def temporal(self) -> bool:
        """Whether a user's rows are split by their times."""
        return self.kind in TEMPORAL

    @property
    def num_users(self) -> int:
        """The number of users with a task. One user may have several, in different states."""
        return sum(len(np.unique(part.user[_is_task(part)])) for part in self.parts)

    @property
    def num_rows(self) -> int:
        """The number of interactions that belong to a task."""
        return sum(int(part.num_kept[_is_task(part)].sum()) for part in self.parts)

    @property
    def num_events(self) -> int:
        """The number of interactions, including those that belong to no task."""
        return sum(int(part.num_kept.sum()) for part in self.parts)

    def raw(self) -> Iterator[Rows]:
        """Yield the raw rows of the log, of ROW, sorted by user, with all rows of a user in one
        piece."""
        return in_threads(self._raw, range(self.num_raw_parts))

    def _raw(self, number: int) -> Rows:
        rows: Rows = self.files.read(raw_file(number), ROW)
        self.files.remove(raw_file(number))
        user = rows["user"] - rows["user"].min()
        if user.max() < 2**16:  # numpy sorts 16 bits in linear time
            user = user.astype(np.uint16)
        return rows.take(np.argsort(user, kind="stable"))

    def num_tasks(self, split: str) -> int:
        """Return the number of tasks of a split."""
        found = [index for index, place in enumerate(PLACES) if place.split == split]
        return sum(int(np.isin(part.place, found).sum()) for part in self.parts)

    def times(self) -> Iterator[IntArray]:
        """Yield the times of all events, in µs since 1970, in an arbitrary order."""
        for number in range(len(self.parts)):
            yield self.files.read(_file("time", number), np.int64)

    def pieces(self, split: str | None = None) -> Iterator[PlacedRows]:
        """Yield tasks with their rows, sorted by split, state and user, some users at a time.

        Args:
            split: the split, or None for all.
        """
        for index, place in enumerate(PLACES):
            if split not in (None, place.split):
                continue
            for number, part in enumerate(self.parts):
                first, last = np.searchsorted(part.place, [index, index + 1])
                if first < last:
                    yield self._piece(number, int(first), int(last))

    def _piece(self, number: int, first: int, last: int) -> PlacedRows:
        part = self.parts[number]
        begin, end = (int(offset) for offset in part.offsets[[first, last]])
        rows = {
            name: self.files.read(_file(name, number), dtype, begin, end)
            for name, dtype in ROW_COLUMNS.items()
        }
        return PlacedRows(
            **{name: getattr(part, name)[first:last] for name in TASK_COLUMNS}, **rows
        )


def put_away(files: RowFiles, number: int, placed: PlacedRows) -> PlacedRows:
    """Write the rows of one part to files, and return its tasks without the rows."""
    for name in ROW_COLUMNS:
        files.append(_file(name, number), getattr(placed, name))
    empty = {name: np.zeros(0, dtype) for name, dtype in ROW_COLUMNS.items()}
    return dataclasses.replace(placed, **empty)


def _is_task(part: PlacedRows) -> BoolArray:
    """Return (T,) which of the part's tasks belong to a split of the task set."""
    is_task = np.array([place.split != WITHHELD for place in PLACES])
    return is_task[part.place]


def raw_file(number: int) -> str:
    """Return the name of the file with the raw rows of some users, which are not yet placed."""
    return f"rows-{number}"


def _file(name: str, number: int) -> str:
    return f"{name}-{number}"
