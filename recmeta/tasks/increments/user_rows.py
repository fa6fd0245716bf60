"""The rows of a log by user, from which a user's tasks are placed again when more rows come.

    users.arrow        one row per user, sorted by id: how many rows
    rows-00000.arrow   one row per row that counts, user by user: time, item number, value, number
        …              of the kind of event

Legend: U users, u some of them, N rows.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.tasks.arrays import IntArray, offsets_of, positions_of
from recmeta.tasks.increments.parts import USERS_FILE
from recmeta.tasks.item_files import ITEM_NUMBER, mapped, write_table
from recmeta.tasks.placing.placement import ROW, Rows
from recmeta.workspace import Folder

ROWS_PER_FILE = 2**22
"""Of a folder, but for the last file; a user's rows are in one file."""
NUM_ROWS = "num_rows"
_COLUMNS = {
    "time": schema.TIMESTAMP,
    "item": ITEM_NUMBER,
    "value": schema.VALUE,
    "kind": schema.EVENT,
}
"""Of a file, by field of ROW."""


def write_user_rows(folder: Folder, user_id: pa.Array, parts: Iterable[Rows]) -> None:
    """Write the rows of users.

    Args:
        user_id: (U,) sorted.
        parts: the rows of all users, sorted by the number of the user, whole users at a time.
    """
    num_rows = np.zeros(len(user_id), np.int64)
    waiting: list[Rows] = []
    num_files = 0
    for rows in parts:
        num_rows += np.bincount(rows["user"], minlength=len(user_id))
        waiting.append(rows)
        if sum(map(len, waiting)) >= ROWS_PER_FILE:
            _write_rows(folder, num_files, np.concatenate(waiting))
            waiting, num_files = [], num_files + 1
    if waiting:
        _write_rows(folder, num_files, np.concatenate(waiting))
    columns = {schema.USER_ID: user_id.cast(pa.string()), NUM_ROWS: pa.array(num_rows)}
    write_table(folder, USERS_FILE, pa.table(columns))


def _write_rows(folder: Folder, number: int, rows: Rows) -> None:
    columns = {
        column: pa.array(np.ascontiguousarray(rows[name])) for name, column in _COLUMNS.items()
    }
    write_table(folder, _file(number), pa.table(columns))


def _file(number: int) -> str:
    return f"rows-{number:05d}.arrow"


class UserRows:
    """What `write_user_rows` wrote, mapped: only the rows that are asked for are read."""

    def __init__(self, folder: Folder) -> None:
        """
        Args:
            folder: of which somebody has checked that it is whole: no digest is compared.
        """
        self._folder = folder
        users = mapped(folder, USERS_FILE)
        self.user_id: pa.Array = users[schema.USER_ID].combine_chunks()
        self.num_rows: IntArray = users[NUM_ROWS].to_numpy()
        """(U,)"""

    def positions_of(self, user_id: pa.Array) -> IntArray:
        """Return (u,) where in `user_id` each of these users is; -1 where it is not."""
        if len(self.user_id) <= len(user_id):
            at = pc.fill_null(pc.index_in(user_id, value_set=self.user_id), -1)
            return np.asarray(at.to_numpy(zero_copy_only=False), np.int64)
        # The other way round: a hash table of the few users, not of all.
        asked = pc.fill_null(pc.index_in(self.user_id, value_set=user_id), -1).to_numpy(
            zero_copy_only=False
        )
        positions = np.full(len(user_id), -1, np.int64)
        mine = np.flatnonzero(asked >= 0)
        positions[asked[mine]] = mine
        return positions

    def rows(self, positions: IntArray, numbers: npt.NDArray[np.integer]) -> Rows:
        """Return the rows (N,) of some users.

        Args:
            positions: (u,) in `user_id`, in any order.
            numbers: (u,) by which the rows name the users.
        """
        order = np.argsort(positions)
        positions, numbers = positions[order], numbers[order]
        first_U = offsets_of(self.num_rows)
        found: list[Rows] = []
        for begin, columns in self._files():
            end = begin + len(columns["time"])
            low, high = np.searchsorted(first_U[positions], [begin, end])
            here = positions[low:high]
            length = self.num_rows[here]
            at = np.repeat(first_U[here] - begin, length) + positions_of(length)
            rows = np.empty(len(at), ROW)
            rows["user"] = np.repeat(numbers[low:high], length)
            for name, column in columns.items():
                rows[name] = column.take(at)
            found.append(rows)
        return np.concatenate([np.zeros(0, ROW), *found])

    def _files(self) -> Iterator[tuple[int, dict[str, npt.NDArray[np.generic]]]]:
        """Yield the number of the first row of each file, and its columns."""
        first, total, number = 0, int(self.num_rows.sum()), 0
        while first < total:
            table = mapped(self._folder, _file(number))
            yield first, {name: table[column].to_numpy() for name, column in _COLUMNS.items()}
            first, number = first + len(table), number + 1
