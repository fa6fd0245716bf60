"""The assignment of users' rows to tasks, and there to support or query.

A place is a split and a state of Lee et al. (KDD 2019); a user has one task in each place where the
user has rows.

Legend: N rows, T tasks, U users, I items.
"""

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.episodes import splitmix64
from recmeta.tasks.placing.placed_rows import NO_TIME, PLACES, WITHHELD, Place, PlacedRows
from recmeta.tasks.placing.row_order import order_by
from recmeta.tasks.split_config import SplitConfig

ROW = np.dtype(
    [("time", "<i8"), ("user", "<i4"), ("item", "<i4"), ("value", "<f4"), ("kind", "<i4")]
)
"""An interaction: its time (µs since 1970) and the numbers of its user, item and kind of event."""
_SECOND: Final = 1_000_000

Rows = npt.NDArray[np.void]

DEV: Final = PLACES.index(Place("dev", "warm"))
COLD: Final = PLACES.index(Place("test", "user_cold"))
TRAIN: Final = PLACES.index(Place("train", "warm"))
_WITHHELD: Final = PLACES.index(Place(WITHHELD, "warm"))
_ITEM_COLD: Final = PLACES.index(Place("test", "item_cold"))
_BOTH_COLD: Final = PLACES.index(Place("test", "user_and_item_cold"))
_NOWHERE: Final = len(PLACES)
_OF_NEW_ITEM = np.full(len(PLACES), _NOWHERE, np.uint8)
_OF_NEW_ITEM[[TRAIN, COLD]] = _ITEM_COLD, _BOTH_COLD
"""The place of a new item's rows, by the user's place: training users' rows test the state."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """The data that decide where rows go, for all users and items."""

    config: SplitConfig
    temporal: bool
    place: npt.NDArray[np.uint8]
    """(U,) the index in PLACES of each user."""
    new_item: BoolArray | None
    """(I,) which items are new, or None if the protocol has no new items."""
    until: IntArray | None
    """The time, by place, in µs since 1970, from which rows are withheld from tasks, or None if
    time is not held out."""
    user_hash: npt.NDArray[np.uint64]
    item_hash: npt.NDArray[np.uint64]
    """(U,) and (I,) hashes, which together order a user's rows at random."""


def place_rows(rows: Rows, placement: Placement) -> PlacedRows:
    """Return the tasks of some users, which have the first row of each user with each item.

    Args:
        rows: (N,) of ROW, all rows of these users in any order.
    """
    rows, ticks = first_of_each_pair(rows)
    place = placement.place.take(rows["user"])
    if placement.new_item is not None:
        place = np.where(placement.new_item[rows["item"]], _OF_NEW_ITEM[place], place)
        somewhere = np.flatnonzero(place != _NOWHERE)
        rows, ticks, place = rows.take(somewhere), ticks.take(somewhere), place.take(somewhere)
    if placement.until is not None:
        place = np.where(rows["time"] >= placement.until[place], _WITHHELD, place).astype(np.uint8)
    user = _from_zero(rows["user"])
    if placement.temporal:
        order = order_by(place, user, ticks, rows["item"])
    else:
        mixed = placement.user_hash[rows["user"]] ^ placement.item_hash[rows["item"]]
        order = order_by(place, user, splitmix64(mixed))
    return _tasks(rows, place, user, order, placement)


def first_of_each_pair(rows: Rows) -> tuple[Rows, IntArray]:
    """Return the first row of each user with each item, sorted by user and item, and numbers in the
    order of the rows' times."""
    ticks = _ticks(rows["time"])
    user, item = _from_zero(rows["user"]), _from_zero(rows["item"])
    order = order_by(user, item, ticks, rows["kind"])
    # Positions are dropped before records are gathered, since a record is six times as wide.
    positions = order.compress(_changes(user.take(order)) | _changes(item.take(order)))
    return rows.take(positions), ticks.take(positions)


def _tasks(
    rows: Rows,
    place: npt.NDArray[np.uint8],
    user: npt.NDArray[np.int32],
    order: IntArray,
    placement: Placement,
) -> PlacedRows:
    """Return the tasks of rows, each sorted by `order`.

    Args:
        user: (N,) numbers from 0.
    """
    config = placement.config
    place = place.take(order)
    start = np.flatnonzero(_changes(user.take(order)) | _changes(place))
    num_rows = np.diff(start, append=len(rows))
    task_place = place[start]
    half = (num_rows + 1) // 2  # the query is half of a short history, and has at least one row
    num_query = np.minimum(config.query_size, half)
    if placement.temporal:
        num_support = np.minimum(config.support_size, num_rows - num_query)
        takes_all = (task_place == TRAIN) | (task_place == _WITHHELD)
        most = np.where(takes_all, num_rows, num_support + config.query_size)
        num_query = np.minimum(most, num_rows) - num_support
    else:
        num_support = num_rows - num_query
    chosen = is_of_length(num_rows, config) | (task_place == _WITHHELD)
    num_kept = np.where(chosen, num_support + num_query, 0)
    kept_then_not = np.stack([num_kept, num_rows - num_kept], axis=1).reshape(-1)
    is_kept = np.repeat(np.tile([True, False], len(start)), kept_then_not)
    task_user = rows["user"].take(order[start[chosen]])
    rows = rows.take(order.compress(is_kept))
    return PlacedRows(
        place=task_place[chosen],
        user=task_user,
        num_rows=num_rows[chosen].astype(np.int32),
        num_support=num_support[chosen].astype(np.int32),
        num_query=num_query[chosen].astype(np.int32),
        time=np.ascontiguousarray(rows["time"]),
        item=np.ascontiguousarray(rows["item"]),
        value=np.ascontiguousarray(rows["value"]),
    )


def is_of_length(num_rows: IntArray, config: SplitConfig) -> BoolArray:
    """Return (T,) whether these numbers of rows are neither too small nor too large for a task."""
    found: BoolArray = num_rows >= config.min_interactions
    if config.max_interactions is not None:
        found &= num_rows <= config.max_interactions
    return found


def _changes(values: npt.NDArray[np.integer]) -> BoolArray:
    changed = np.ones(len(values), np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _from_zero(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the numbers minus the smallest one, so that they take few bits."""
    found: npt.NDArray[np.int32] = numbers - numbers.min(initial=np.iinfo(np.int32).max)
    return found


def _ticks(time: IntArray) -> IntArray:
    """Return times as numbers from 0 in the same order, with few bits if that is cheap. NO_TIME
    comes last.

    Most logs have times in seconds, so that 20 bits of the microseconds carry no information.
    """
    known = time != NO_TIME
    if not known.any():
        return np.zeros(len(time), np.int64)
    past: IntArray = time - time.min()
    if not known.all():
        past = np.where(known, past, past[known].max() + 1)
    elif not (past % _SECOND).any():
        past //= _SECOND
    return past
