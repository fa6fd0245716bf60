"""The catalogue, the statistics of its items over time, and their files.

    items.arrow          one row per version of an item: item number, valid from, raw attributes
    statistics.arrow     one row per snapshot: users who met each item before it, sum of their
                         values
    history-00000.arrow  one row per event that counts in them, in the order of time: when, the
        …                item number and the value; where tasks are not cut by time, one row with
                         the item number alone for each that says that the item was taken

An attribute keeps its name in a file unless a column of the file has the same name.

Legend: V versions of items, I items, T snapshots, N events.
"""

import dataclasses
import io
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc

from recmeta import schema
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.item_history import ItemHistory
from recmeta.workspace import Folder, arrow_table

ITEM_NUMBER: Final = "item"
EVENTS_PER_FILE: Final = 2**22
"""The number of events in each file of a history, except for the last file."""


class HistoryPiece(NamedTuple):
    """Some events of a history."""

    item: npt.NDArray[np.int32]
    """(N,) item numbers."""
    time: IntArray | None = None
    """(N,) microseconds since 1970, or None if tasks are not cut by time."""
    value: Float32Array | None = None
    """(N,) the values, or None if there are no times, and in histories of earlier versions."""

    def rows(self, rows: slice) -> "HistoryPiece":
        """Return some of the events."""
        return HistoryPiece(
            self.item[rows],
            None if self.time is None else self.time[rows],
            None if self.value is None else self.value[rows],
        )


ATTRIBUTE: Final = "attribute:"
"""Prefix of the stored name of an attribute that has the name of a column of the file."""
ITEM_COLUMNS: Final = (schema.ITEM_ID, ITEM_NUMBER, schema.VALID_FROM)


@dataclasses.dataclass(frozen=True)
class Items:
    """The catalogue: V versions of I items, sorted by (item number, valid from)."""

    item_id: pa.Array
    """(I,) item ids. An item's number is its position here."""
    item: npt.NDArray[np.int32]
    """(V,) the item that each version describes."""
    valid_from: IntArray
    """(V,) microseconds since 1970 UTC, or int64's smallest value if the version was always
    known."""
    attributes: pa.Table
    """(V rows) raw attributes."""

    def newest(self) -> IntArray:
        """Return (I,) the row of each item's newest version."""
        numbers = np.arange(len(self.item_id))
        return np.searchsorted(self.item, numbers, side="right") - 1

    def titles(self) -> pa.Array | None:
        """Return (I,) each item's newest title, or None if the catalogue has no titles."""
        if schema.TITLE not in self.attributes.column_names:
            return None
        return self.attributes[schema.TITLE].combine_chunks().take(pa.array(self.newest()))

    def names(self) -> pa.Array:
        """Return (I,) each item's name for people: its title if it has one, otherwise its id."""
        titles = self.titles()
        return self.item_id if titles is None else pc.coalesce(titles, self.item_id)


@dataclasses.dataclass(frozen=True)
class ItemStatistics:
    """The statistics of each item before each snapshot. Snapshot 0 is before all events."""

    time: IntArray
    """(T,) microseconds since 1970. A snapshot holds the events strictly before its time."""
    num_users: Float32Array
    """(T, I) the number of users who had met the item."""
    sum_values: Float32Array
    """(T, I) the sum of the first values that these users gave it."""

    @classmethod
    def empty(cls, num_items: int) -> "ItemStatistics":
        """Return statistics without any event."""
        zeros = np.zeros((1, num_items), np.float32)
        return cls(np.array([schema.ALWAYS]), zeros, zeros)

    def last(self) -> "ItemStatistics":
        """Return only the newest snapshot, which is what scoring uses."""
        return ItemStatistics(self.time[-1:], self.num_users[-1:], self.sum_values[-1:])


def write_items(folder: Folder, items: Items) -> None:
    """Write the catalogue."""
    columns = {
        schema.ITEM_ID: items.item_id.take(pa.array(items.item)),
        ITEM_NUMBER: pa.array(items.item, pa.int32()),
        schema.VALID_FROM: pa.array(items.valid_from, pa.int64()),
    }
    columns |= {
        stored_name(name, ITEM_COLUMNS): items.attributes[name]
        for name in items.attributes.column_names
    }
    write_table(folder, "items.arrow", pa.table(columns))


def read_items(folder: Folder) -> Items:
    """Read what `write_items` wrote. Raises Broken if it has changed."""
    table = read_table(folder, "items.arrow").combine_chunks()
    item = table[ITEM_NUMBER].to_numpy()
    first = np.flatnonzero(np.diff(item, prepend=-1))
    return Items(
        table[schema.ITEM_ID].combine_chunks().take(pa.array(first)),
        item,
        table[schema.VALID_FROM].to_numpy(),
        attributes_of(table, ITEM_COLUMNS),
    )


def write_statistics(folder: Folder, statistics: ItemStatistics) -> None:
    """Write the items' statistics, one row per snapshot."""
    num_items = statistics.num_users.shape[1]

    def column(matrix_TI: Float32Array) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix_TI.reshape(-1)), num_items)

    table = pa.table(
        {
            schema.TIMESTAMP: pa.array(statistics.time, pa.int64()),
            schema.NUM_USERS: column(statistics.num_users),
            schema.SUM_VALUES: column(statistics.sum_values),
        }
    )
    write_table(folder, "statistics.arrow", table)


def read_statistics(folder: Folder) -> ItemStatistics:
    """Read what `write_statistics` wrote. Raises Broken if it has changed."""
    table = read_table(folder, "statistics.arrow").combine_chunks()

    def matrix(name: str) -> Float32Array:
        flat: Float32Array = table[name].combine_chunks().flatten().to_numpy()
        return flat.reshape(table.num_rows, -1)

    return ItemStatistics(
        table[schema.TIMESTAMP].to_numpy(), matrix(schema.NUM_USERS), matrix(schema.SUM_VALUES)
    )


def write_history(folder: Folder, pieces: Iterable[HistoryPiece]) -> int:
    """Write the events that count, given in the order of time, and return the number of files.

    The files do not depend on how the events are divided into pieces.
    """
    num_files, waiting = 0, list[HistoryPiece]()
    for piece in pieces:
        waiting.append(piece)
        while sum(len(some.item) for some in waiting) >= EVENTS_PER_FILE:
            both = _joined(waiting)
            _write_history_file(folder, num_files, both.rows(slice(EVENTS_PER_FILE)))
            num_files, waiting = num_files + 1, [both.rows(slice(EVENTS_PER_FILE, None))]
    last = _joined(waiting)
    if len(last.item):
        _write_history_file(folder, num_files, last)
        num_files += 1
    return num_files


def history_file(number: int) -> str:
    """Return the name of a file of the history."""
    return f"history-{number:05d}.arrow"


def read_history(
    folder: Folder,
    num_files: int,
    num_items: int,
    *,
    temporal: bool,
    taken_from: float | None = None,
) -> ItemHistory:
    """Read what `write_history` wrote into this number of files. Raises Broken if it has changed.

    Args:
        taken_from: see `TaskSetSpec`; events with a lower value are left out.
    """
    time, item = scratch.Growing(np.int64), scratch.Growing(np.int32)
    for number in range(num_files):
        table = read_table(folder, history_file(number))
        if taken_from is not None and schema.VALUE in table.column_names:
            lowest = pa.scalar(taken_from, pa.float32())
            table = table.filter(pc.greater_equal(table[schema.VALUE], lowest))
        item.append(table[ITEM_NUMBER].to_numpy())
        if temporal:
            time.append(table[schema.TIMESTAMP].to_numpy())
    return ItemHistory(
        time=time.done() if temporal else None, item=item.done(), num_items=num_items
    )


def _joined(pieces: Sequence[HistoryPiece]) -> HistoryPiece:
    item = np.concatenate([np.zeros(0, np.int32), *(piece.item for piece in pieces)])
    times = [piece.time for piece in pieces if piece.time is not None]
    values = [piece.value for piece in pieces if piece.value is not None]
    return HistoryPiece(
        item,
        np.concatenate(times) if times else None,
        np.concatenate(values) if values else None,
    )


def _write_history_file(folder: Folder, number: int, piece: HistoryPiece) -> None:
    columns = {}
    if piece.time is not None:
        columns[schema.TIMESTAMP] = pa.array(piece.time, pa.int64())
    columns[ITEM_NUMBER] = pa.array(piece.item, pa.int32())
    if piece.value is not None:
        columns[schema.VALUE] = pa.array(piece.value, pa.float32())
    write_table(folder, history_file(number), pa.table(columns))


def stored_name(name: str, columns: Sequence[str]) -> str:
    """Return the name of an attribute in a file that has columns of its own."""
    return ATTRIBUTE + name if name in columns or name.startswith(ATTRIBUTE) else name


def attributes_of(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the attributes in a file, by their own names."""
    attributes = table.drop_columns(list(columns))
    return attributes.rename_columns([n.removeprefix(ATTRIBUTE) for n in attributes.column_names])


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write an Arrow file."""
    sink = io.BytesIO()
    with ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    folder.write_bytes(name, sink.getvalue())


def read_table(folder: Folder, name: str) -> pa.Table:
    """Read what `write_table` wrote. Raises Broken if it has changed."""
    return arrow_table(folder.read_buffer(name), f"{folder.path}/{name}")


def mapped(folder: Folder, name: str) -> pa.Table:
    """Return the table in an Arrow file of a folder that is known to be whole, in one piece. On
    this machine, only the parts that are used are read, and no digest is compared."""
    return ipc.open_file(folder.read_buffer(name)).read_all().combine_chunks()
