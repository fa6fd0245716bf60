"""The events of a task set in the order of time: those of its base, and what increments changed.

    changes.arrow   of an increment, in the order of time: when, the item number, the value, and 1
                    for an event that came, -1 for one that went, as where an earlier event of the
                    same user and item turned up

The base is mapped and searched, never read whole: what moves from one snapshot to the next are the
events between the old time of the snapshot and the new one.

Legend: N events, C changes, T snapshots, I items, R ranks.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmeta import schema
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.increments.tallies import ComplexArray, ItemTallies
from recmeta.tasks.item_files import ITEM_NUMBER, write_table
from recmeta.tasks.placing.row_order import order_by
from recmeta.workspace import Folder

CHANGES_FILE = "changes.arrow"
SIGN = "sign"


@dataclasses.dataclass(frozen=True)
class Changes:
    """Events that came or went, in the order of time, then of the item's number."""

    time: IntArray
    """(C,) microseconds since 1970."""
    item: npt.NDArray[np.int32]
    """(C,) item numbers."""
    value: Float32Array
    """(C,)"""
    sign: npt.NDArray[np.int8]
    """(C,) 1 for each that came, -1 for each that went."""

    @classmethod
    def came(cls, time: IntArray, item: npt.NDArray[np.int32], value: Float32Array) -> "Changes":
        """Return events that all came."""
        return cls(time, item, value, np.ones(len(time), np.int8))

    def __len__(self) -> int:
        return len(self.time)

    def between(self, first: int, last: int) -> "Changes":
        """Return those from position `first` to before `last`."""
        rows = slice(first, last)
        return Changes(self.time[rows], self.item[rows], self.value[rows], self.sign[rows])

    def taken(self, taken_from: float | None) -> "Changes":
        """Return those that say that the item was taken; see `TaskSetSpec.taken_from`."""
        if taken_from is None:
            return self
        kept = self.value >= taken_from
        return Changes(self.time[kept], self.item[kept], self.value[kept], self.sign[kept])

    def renumbered(self, number_I: npt.NDArray[np.int32] | None) -> "Changes":
        """Return the same with other item numbers; None keeps them."""
        if number_I is None:
            return self
        return dataclasses.replace(self, item=number_I[self.item])

    def to_table(self) -> pa.Table:
        """Return them as a file has them."""
        columns = {
            schema.TIMESTAMP: self.time,
            ITEM_NUMBER: self.item,
            schema.VALUE: self.value,
            SIGN: self.sign,
        }
        return pa.table({name: pa.array(column) for name, column in columns.items()})

    @classmethod
    def from_table(cls, table: pa.Table) -> "Changes":
        """Return what `to_table` made a table of."""
        names = (schema.TIMESTAMP, ITEM_NUMBER, schema.VALUE, SIGN)
        return cls(*(table[name].to_numpy() for name in names))


def write_changes(folder: Folder, changes: Changes) -> None:
    """Write an increment's changes."""
    write_table(folder, CHANGES_FILE, changes.to_table())


def difference(before: Changes, after: Changes) -> Changes:
    """Return what turns some events into others: those that are in both cancel out.

    Args:
        before, after: events in any order, each with the sign 1.
    """
    both = joined([dataclasses.replace(before, sign=-before.sign), after])
    # The bits of floats of one sign rise as the floats do; any order would do that is the same.
    bits = both.value.view(np.uint32).astype(np.int64)
    first = both.time.min(initial=schema.END_OF_TIME)
    order = order_by(both.time - first, both.item, bits)
    both = Changes(both.time[order], both.item[order], both.value[order], both.sign[order])
    starts = _starts(both.time, both.item, both.value)
    if not len(starts):
        return both
    total = np.add.reduceat(both.sign.astype(np.int64), starts)
    times = np.repeat(starts, np.abs(total))
    return Changes(
        both.time[times],
        both.item[times],
        both.value[times],
        np.repeat(np.sign(total), np.abs(total)).astype(np.int8),
    )


def joined(parts: Sequence[Changes]) -> Changes:
    """Return the events of all parts, one part after the other."""
    return Changes(
        np.concatenate([np.zeros(0, np.int64), *(part.time for part in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(part.item for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.value for part in parts)]),
        np.concatenate([np.zeros(0, np.int8), *(part.sign for part in parts)]),
    )


def history(parts: Sequence[Changes]) -> tuple[IntArray, npt.NDArray[np.int32]]:
    """Return the times (N,) and item numbers (N,) of the events that are left of all changes, in
    the order of time, at equal times in that of the items' numbers. Between two cuts in time they
    are put in order by themselves, so that many events are not in memory (`scratch`)."""
    time, item = scratch.Growing(np.int64), scratch.Growing(np.int32)
    parts = [part for part in parts if len(part)]
    cuts = np.unique([part.time[-1] for part in parts])
    begins = [0] * len(parts)
    for cut in [*cuts[:-1], None]:
        ends = [
            len(part) if cut is None else int(np.searchsorted(part.time, cut)) for part in parts
        ]
        pieces = zip(parts, begins, ends, strict=True)
        time_n, item_n = _left(joined([part.between(*piece) for part, *piece in pieces]))
        time.append(time_n)
        item.append(item_n)
        begins = ends
    return time.done(), item.done()


def _left(both: Changes) -> tuple[IntArray, npt.NDArray[np.int32]]:
    """Return the times and items of the events that are left of some changes, in order."""
    order = order_by(both.time - both.time.min(initial=schema.END_OF_TIME), both.item)
    time, item, sign = both.time[order], both.item[order], both.sign[order]
    if (sign > 0).all():
        return time, item
    starts = _starts(time, item)
    left = np.add.reduceat(sign.astype(np.int64), starts)
    return np.repeat(time[starts], left), np.repeat(item[starts], left)


def _starts(*columns: npt.NDArray[np.generic]) -> IntArray:
    """Return where rows begin that differ from the one before them in any column."""
    changes = np.zeros(len(columns[0]), np.bool_)
    changes[:1] = True
    for column in columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changes)


class EventLog:
    """All events of a task set, of which each part is in the order of time."""

    def __init__(
        self, parts: Sequence[Changes], numbers: Sequence[npt.NDArray[np.int32] | None]
    ) -> None:
        """
        Args:
            parts: the base's events, and what each increment changed.
            numbers: by part, today's number of each of its items; None where it is the same.
        """
        there = [n for n, part in enumerate(parts) if len(part)]
        self._parts = [parts[n] for n in there]
        self._numbers = [numbers[n] for n in there]
        self._before = [
            np.concatenate([[0], part.sign.cumsum(dtype=np.int64)])
            if (part.sign < 0).any()
            else None
            for part in self._parts
        ]
        """By part, the sum of the signs of all before each; None where all came."""

    def __len__(self) -> int:
        return sum(
            len(part) if before is None else int(before[-1])
            for part, before in zip(self._parts, self._before, strict=True)
        )

    def num_before(self, time: IntArray, *, inclusive: bool = False) -> IntArray:
        """Return how many events are before each time, or at it where `inclusive`."""
        total = np.zeros(len(time), np.int64)
        for part, before in zip(self._parts, self._before, strict=True):
            found = np.searchsorted(part.time, time, side="right" if inclusive else "left")
            total += found if before is None else before[found]
        return total

    def values_at(self, ranks: IntArray) -> IntArray:
        """Return the times (R,) of the events that have these positions (R,) among all."""
        low = np.full(len(ranks), min(int(part.time[0]) for part in self._parts))
        high = np.full(len(ranks), max(int(part.time[-1]) for part in self._parts))
        while (low < high).any():
            middle = low + (high - low) // 2
            enough = self.num_before(middle, inclusive=True) > ranks
            high = np.where(enough, middle, high)
            low = np.where(enough, low, middle + 1)
        return low

    def moved(self, tallies: ItemTallies, tally_TI: ComplexArray, times: IntArray) -> ItemTallies:
        """Return the tallies at other times.

        Args:
            tallies: of these events, with their own times.
            tally_TI: the same with the items' numbers of today.
            times: of the snapshots wanted, rising.
        """
        old, new = self.num_before(tallies.time), self.num_before(times)
        last = len(tallies.time) - 1
        right = np.minimum(np.searchsorted(tallies.time, times), last)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(new - old[left]) < np.abs(new - old[right]), left, right)
        found = tally_TI[nearest]
        for row, (old_time, time) in enumerate(zip(tallies.time[nearest], times, strict=True)):
            lowest, highest = min(old_time, time), max(old_time, time)
            for part, number_I in zip(self._parts, self._numbers, strict=True):
                first, end = np.searchsorted(part.time, [lowest, highest])
                if first < end:
                    events = part.between(int(first), int(end)).renumbered(number_I)
                    np.add.at(found[row], events.item, _weight(events, time > old_time))
        return ItemTallies(times, found)


def with_changes(tallies: ItemTallies, changes: Changes) -> ItemTallies:
    """Return the tallies with more events that came and went."""
    first = np.searchsorted(tallies.time, changes.time, side="right")
    found = tallies.tally.copy()
    items, column = np.unique(changes.item, return_inverse=True)
    more = np.zeros((len(tallies.time), len(items)), np.complex128)
    np.add.at(more, (first, column), _weight(changes, True))
    found[:, items] += more.cumsum(0)
    return ItemTallies(tallies.time, found)


def _weight(events: Changes, is_added: bool) -> ComplexArray:
    """Return (C,) what each event counts, and its value."""
    sign = events.sign if is_added else -events.sign
    found: ComplexArray = sign * (1 + 1j * events.value.astype(np.complex128))
    return found
