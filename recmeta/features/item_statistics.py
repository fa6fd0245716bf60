"""The statistics of each item before a time, its number of users and the sum of their values, and
the events themselves in the order of time.

A snapshot holds the events strictly before its time; a task reads the newest snapshot that is not
later than its cut time, as with a job that refreshes features from time to time. So no task sees
its query or anything later.

Legend: T snapshots, I items, N rows.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recmeta import schema
from recmeta.features.order_statistics import values_at
from recmeta.tasks.arrays import Float32Array, IntArray
from recmeta.tasks.increments.tallies import ItemTallies
from recmeta.tasks.item_files import HistoryPiece, ItemStatistics
from recmeta.tasks.placing.placed_rows import NO_TIME
from recmeta.tasks.placing.row_files import RowFiles
from recmeta.tasks.placing.row_order import order_by
from recmeta.tasks.threads import in_threads

ENDS = np.array([schema.ALWAYS, schema.END_OF_TIME])
MOST_CELLS = 200_000_000
"""The most numbers (snapshots × items) that are kept; larger catalogues get fewer snapshots."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """The resolution of the statistics in time."""

    num_snapshots: int = 64
    """The most snapshots that are kept, with equal numbers of events between them."""

    def __post_init__(self) -> None:
        if self.num_snapshots < 2:
            raise ValueError(f"num_snapshots is {self.num_snapshots}; it must be at least 2.")


EVENT = np.dtype([("time", "<i8"), ("item", "<i4"), ("value", "<f4")])
"""A stored event: its time (µs since 1970), the number of its item, and its value."""


class Events(NamedTuple):
    """Some of the events that count, which are the first of each user with each item."""

    item: npt.NDArray[np.int32]
    """(N,) numbers."""
    value: Float32Array
    """(N,)"""
    time: IntArray | None
    """(N,) microseconds since 1970, or None if the log has no times."""

    def taken(self, taken_from: float | None) -> "Events":
        """Return the events that are takes; see `TaskSetSpec.taken_from`."""
        if taken_from is None:
            return self
        kept = self.value >= taken_from
        return Events(
            self.item[kept], self.value[kept], None if self.time is None else self.time[kept]
        )


def snapshot_times(
    num_events: int,
    times: Callable[[], Iterable[IntArray]] | None,
    num_items: int,
    config: StatisticsConfig,
) -> IntArray:
    """Return the times (T,) of snapshots, from before to after all events.

    Args:
        num_events: N.
        times: returns the microseconds since 1970 of all events, in pieces, or None if the log has
            no times.
    """
    if times is None:
        return ENDS
    return times_at(
        snapshot_ranks(num_events, num_items, config), lambda ranks: values_at(ranks, times)
    )


def snapshot_ranks(num_events: int, num_items: int, config: StatisticsConfig) -> IntArray:
    """Return the positions, among all events in the order of time, of the events at whose times a
    snapshot is taken."""
    wanted = min(config.num_snapshots, max(2, MOST_CELLS // max(num_items, 1)))
    if num_events == 0:
        return np.zeros(0, np.int64)
    return np.floor((num_events - 1) * np.linspace(0, 1, wanted)[1:-1]).astype(np.int64)


def times_at(ranks: IntArray, at: Callable[[IntArray], IntArray]) -> IntArray:
    """Return the times (T,) of snapshots, including the ends of time.

    Args:
        ranks: from `snapshot_ranks`.
        at: returns the times of the events at these positions, of which there is at least one.
    """
    return np.unique(np.concatenate([ENDS, at(ranks)])) if len(ranks) else ENDS


def item_tallies(events: Iterable[Events], times: IntArray, num_items: int) -> ItemTallies:
    """Return the unrounded statistics at every snapshot.

    Args:
        events: all events that count, in pieces; memory holds one at a time.
        times: (T,) from `snapshot_times`.
    """

    def work(some: Events) -> tuple[IntArray, npt.NDArray[np.complex128]]:
        first_holding = (
            np.full(len(some.item), len(times) - 1)
            if some.time is None
            else np.searchsorted(times, some.time, side="right")
        )
        cell = first_holding.astype(np.int64) * num_items + some.item
        return cell, 1 + 1j * some.value.astype(np.complex128)

    # Counts and values are adjacent, so that an event needs one random access to memory instead of
    # two. They are added in place: a new array of all cells for each piece would cost more than the
    # piece.
    tallies = np.zeros(len(times) * num_items, np.complex128)
    for cell, tally in in_threads(work, events):
        np.add.at(tallies, cell, tally)
    tally_TI = tallies.reshape(len(times), num_items)
    return ItemTallies(times, np.cumsum(tally_TI, axis=0, out=tally_TI))


def in_order(events: Iterable[Events], times: IntArray) -> Iterator[HistoryPiece]:
    """Yield the events in pieces, sorted by time, then by item number and value; without times, in
    the given order.

    They are stored by the snapshots between which they lie, about equally many in each interval,
    and sorted one interval after the other: memory holds a few intervals, never all events.

    Args:
        events: all events that count, in pieces, either all with times or all without.
        times: (T,) from `snapshot_times`.
    """
    files, lots = RowFiles(), set[int]()
    for rows, counts in in_threads(lambda some: _by_lot(some, times), events):
        if rows["time"][:1] == NO_TIME:
            yield HistoryPiece(np.ascontiguousarray(rows["item"]))
            continue
        ends = counts.cumsum()
        for lot in np.flatnonzero(counts).tolist():
            files.append(str(lot), rows[ends[lot] - counts[lot] : ends[lot]])
            lots.add(lot)

    def work(lot: int) -> HistoryPiece:
        rows = files.read(str(lot), EVENT)
        files.remove(str(lot))
        return _sorted(rows)

    yield from in_threads(work, sorted(lots))


def _by_lot(some: Events, times: IntArray) -> tuple[npt.NDArray[np.void], IntArray]:
    """Return events (N,) of EVENT sorted by the first snapshot that holds them, and the number of
    events that each snapshot (T,) is the first to hold. Events without times stay in order."""
    rows = np.empty(len(some.item), EVENT)
    rows["item"], rows["value"] = some.item, some.value
    if some.time is None:
        rows["time"] = NO_TIME
        return rows, np.zeros(len(times), np.int64)
    rows["time"] = some.time
    lot = np.searchsorted(times, some.time, side="right").astype(np.uint16)
    # numpy sorts 16 bits in linear time.
    return rows.take(np.argsort(lot, kind="stable")), np.bincount(lot, minlength=len(times))


def _sorted(rows: npt.NDArray[np.void]) -> HistoryPiece:
    """Return events (N,) of EVENT sorted by time, item and value."""
    time, item, value = rows["time"], rows["item"], rows["value"]
    levels = np.unique(value)
    level = np.searchsorted(levels, value)
    lowest, past = time.min(), time - time.min()
    item_bits, level_bits = int(item.max()).bit_length(), (len(levels) - 1).bit_length()
    if int(past.max()).bit_length() + item_bits + level_bits >= 64:
        order = order_by(past, item, level)
        return HistoryPiece(item.take(order), time.take(order), value.take(order))
    # Sorting values is several times faster than sorting positions.
    packed = np.sort((((past << item_bits) | item) << level_bits) | level)
    value = levels.take(packed & ((1 << level_bits) - 1))
    packed >>= level_bits
    item = (packed & ((1 << item_bits) - 1)).astype(np.int32)
    return HistoryPiece(item, (packed >> item_bits) + lowest, value)


def as_table(statistics: ItemStatistics, item_id: pl.Series) -> pl.DataFrame:
    """Return rows of the `item_statistics` table: an item has a row where its numbers changed.

    The snapshots at the ends of time, which are no real times, are left out.

    Args:
        item_id: the sorted ids, by which the table is sorted, then by time.
    """
    finite = (statistics.time > schema.ALWAYS) & (statistics.time < schema.END_OF_TIME)
    count = statistics.num_users[finite]
    changed = np.diff(count, axis=0, prepend=np.zeros((1, count.shape[1]), np.float32)) != 0
    item, snapshot = np.nonzero(changed.T)  # the ids are sorted already
    return pl.DataFrame(
        {
            schema.ITEM_ID: item_id.gather(item),
            schema.TIMESTAMP: pl.Series(statistics.time[finite][snapshot]).cast(
                pl.Datetime("us", "UTC")
            ),
            schema.NUM_USERS: count[snapshot, item].astype(np.int64),
            schema.SUM_VALUES: statistics.sum_values[finite][snapshot, item].astype(np.float64),
        }
    )
