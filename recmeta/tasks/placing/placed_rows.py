"""Tasks laid end to end, with numbers in place of ids, as they pass through task building.

Legend: N rows, T tasks.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recmeta import schema
from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray, offsets_of

NO_TIME: Final = schema.END_OF_TIME


class Place(NamedTuple):
    """The place of tasks: a split, and a state of Lee et al. (KDD 2019)."""

    split: str
    state: str


PLACES: Final = (
    Place("dev", "warm"),
    Place("test", "item_cold"),
    Place("test", "user_and_item_cold"),
    Place("test", "user_cold"),
    Place("train", "warm"),
    Place("withheld", "warm"),
)
"""The places in the order of their names, which is the order of a task set's rows. The last one is
no split of a task set: its rows are known to later users, as part of the items' past, but no model
learns from them."""
WITHHELD: Final = PLACES[-1].split


TASK_COLUMNS: Final[dict[str, Any]] = {
    "place": np.uint8,
    "user": np.int32,
    "num_rows": np.int32,
    "num_support": np.int32,
    "num_query": np.int32,
}
ROW_COLUMNS: Final[dict[str, Any]] = {"time": np.int64, "item": np.int32, "value": np.float32}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlacedRows:
    """Some tasks, sorted by place and user, and their rows, task by task.

    The rows of a temporal task are in the order of time, support before query; in a random task,
    the query comes before the support.
    """

    place: npt.NDArray[np.uint8]
    """(T,) indices in PLACES."""
    user: npt.NDArray[np.int32]
    """(T,) numbers."""
    num_rows: npt.NDArray[np.int32]
    """(T,) the number of the user's rows in that state. A temporal task may leave the last ones
    out."""
    num_support: npt.NDArray[np.int32]
    num_query: npt.NDArray[np.int32]
    """(T,) the number of query rows that are kept."""
    time: IntArray
    """(N,) µs since 1970, or NO_TIME if unknown."""
    item: npt.NDArray[np.int32]
    """(N,) numbers."""
    value: Float32Array
    """(N,)"""

    def __len__(self) -> int:
        return len(self.place)

    @property
    def num_kept(self) -> IntArray:
        """(T,) the number of rows of each task that are kept."""
        return self.num_support.astype(np.int64) + self.num_query

    @property
    def offsets(self) -> IntArray:
        """(T + 1,) offsets: task t owns the rows offsets[t]:offsets[t + 1]."""
        return offsets_of(self.num_kept)

    def is_query(self, *, temporal: bool) -> BoolArray:
        """Return (N,) which rows are query rows; the others are support rows."""
        sides = (self.num_support, self.num_query)
        lengths = np.stack(sides if temporal else sides[::-1], axis=1).reshape(-1)
        return np.repeat(np.tile([not temporal, temporal], len(self)), lengths)

    def tasks(self, first: int, last: int) -> "PlacedRows":
        """Return the tasks from `first` to before `last`, without copying."""
        begin, end = self.offsets[[first, last]]
        return PlacedRows(
            **{name: getattr(self, name)[first:last] for name in TASK_COLUMNS},
            **{name: getattr(self, name)[begin:end] for name in ROW_COLUMNS},
        )


def concatenate(pieces: Sequence[PlacedRows]) -> PlacedRows:
    """Return the tasks of all pieces, in order."""
    if len(pieces) == 1:
        return pieces[0]
    columns = {**TASK_COLUMNS, **ROW_COLUMNS}
    return PlacedRows(
        **{
            name: np.concatenate([np.zeros(0, dtype), *(getattr(p, name) for p in pieces)])
            for name, dtype in columns.items()
        }
    )
