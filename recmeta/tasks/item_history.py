"""Exact counts of the events of each item before any time, with exponential forgetting if wanted.

An event of age a counts 2^(-a / half-life): with this exponential forgetting, popularity follows
recent takes. An item's count at a time is its count right after its last event, aged since then. So
all events are summed once for a half-life, item by item; then users are processed in the order of
their cut times, with one multiplication per item: O(N log N + B·I) in all. A user's counts do not
depend, to the last bit, on the other users of the call.

Legend: N events, n some of them, I items, B users, b users of one block, M pairs of user and item,
    m those whose item had been met, T snapshots.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from recmeta import schema
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array, Float64Array, IntArray, positions_of

DAY = 86_400_000_000
"""Microseconds."""
CANDIDATES = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)
"""The half-lives, in days, that are worth trying."""
USERS_AT_ONCE = 256
EVENTS_AT_ONCE = 2**18
PARTS_BETWEEN = 64
"""After so many parts, pages of mapped arrays that were read or written once are given back."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ItemHistory:
    """Every event that counts in the statistics of items: its time and its item."""

    time: IntArray | None
    """(N,) microseconds since 1970 UTC, in ascending order, or None if the tasks are not cut by
    time: every event is then known to every task."""
    item: npt.NDArray[np.int32]
    """(N,) item numbers."""
    num_items: int
    """I"""
    _kept: dict[float | None, Float64Array] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )
    """The results of `_right_after`, by half-life."""

    @classmethod
    def from_snapshots(
        cls, time_T: IntArray | None, num_users_TI: Float32Array, newest: int
    ) -> "ItemHistory":
        """Return the history that is known from statistics: events between two snapshots are put
        right before the later one, so that no cut time shows an event too early.

        Args:
            time_T: the times of the snapshots, the first before and the last after all events, or
                None if tasks are not cut by time.
            num_users_TI: the number of users who had met each item before each snapshot.
            newest: microseconds since 1970; no task's cut time is later. Events after the last
                snapshot that has a real time are put here.
        """
        num_items = num_users_TI.shape[1]
        if time_T is None:
            total_I = np.rint(num_users_TI[-1]).astype(np.int64)
            item = np.repeat(np.arange(num_items), total_I)
            return cls(time=None, item=item.astype(np.int32), num_items=num_items)
        zeros = np.zeros((1, num_items), np.float32)
        came_TI = np.rint(np.diff(num_users_TI, axis=0, prepend=zeros)).astype(np.int64)
        snapshot, item = np.nonzero(came_TI)
        times = came_TI[snapshot, item]
        finite = time_T[(time_T > schema.ALWAYS) & (time_T < schema.END_OF_TIME)]
        is_last_T = time_T == schema.END_OF_TIME
        at_T = np.where(is_last_T, finite.max(initial=newest), time_T - 1)
        return cls(
            time=np.repeat(at_T[snapshot], times),
            item=np.repeat(item, times).astype(np.int32),
            num_items=num_items,
        )

    def __len__(self) -> int:
        return len(self.item)

    @property
    def has_times(self) -> bool:
        """Whether the times of the events are known. Without them, no event can count less for its
        age."""
        return self.time is not None

    @property
    def span_days(self) -> float:
        """The days from the oldest event to the newest, or 0 without times."""
        if self.time is None or len(self.time) == 0:
            return 0.0
        return (int(self.time[-1]) - int(self.time[0])) / DAY

    def now(self, half_life_days: float | None) -> Float32Array:
        """Return (I,) the counts of all events, with ages relative to the newest one.

        Raises:
            ValueError: as for `counts`.
        """
        now: Float32Array = self.counts(np.array([schema.END_OF_TIME]), half_life_days)[0]
        return now

    def counts(self, cut_time_B: IntArray, half_life_days: float | None) -> Float32Array:
        """Return (B, I) the sum over each item's events before each cut time of 2^(-age /
        half-life), where an event's age is the time from it to the cut.

        Args:
            cut_time_B: microseconds since 1970; an event at exactly this time does not count.
                `schema.END_OF_TIME` stands for the present: every event counts, with its age
                relative to the newest one.
            half_life_days: the number of days after which an event counts half, or None if each
                counts 1.

        Raises:
            ValueError: for a half-life that is not above 0, or for a half-life without times.
        """
        counts_BI = np.empty((len(cut_time_B), self.num_items), np.float32)
        for users_b, counts_bI in self.blocks(cut_time_B, half_life_days):
            counts_BI[users_b] = counts_bI
        return counts_BI

    def blocks(
        self,
        cut_time_B: IntArray,
        half_life_days: float | None,
        users_at_once: int = USERS_AT_ONCE,
    ) -> Iterator[tuple[IntArray, Float32Array]]:
        """Yield the positions (b,) of some users, and their counts (b, I), until all users are
        done. Memory holds one block, however many users there are.

        The users come in the order of their cut times. The arguments are those of `counts`.

        Raises:
            ValueError: as for `counts`.
        """
        self._check(half_life_days)
        num_before_B, when_B = self._before(cut_time_B)
        if half_life_days is None:
            when_B = np.zeros_like(when_B)
        order_B = np.lexsort((when_B, num_before_B))
        # For the last event of each item so far: the count right after it, and its time.
        after_I, time_I = np.zeros(self.num_items), np.zeros(self.num_items)
        num_done = 0
        for start in range(0, len(order_B), users_at_once):
            users_b = order_B[start : start + users_at_once]
            counts_bI = np.empty((len(users_b), self.num_items), np.float32)
            for place, user in enumerate(users_b.tolist()):
                begin, num_done = num_done, int(num_before_B[user])
                self._go_on(begin, num_done, half_life_days, after_I, time_I)
                if half_life_days is None:
                    counts_bI[place] = after_I
                    continue
                is_alike = begin == num_done and place > 0
                if is_alike and when_B[user] == when_B[users_b[place - 1]]:
                    counts_bI[place] = counts_bI[place - 1]
                else:
                    counts_bI[place] = after_I * _aged(time_I, when_B[user], half_life_days)
            yield users_b, counts_bI

    def _go_on(
        self,
        begin: int,
        end: int,
        half_life_days: float | None,
        after_I: Float64Array,
        time_I: Float64Array,
    ) -> None:
        """Put the events from position `begin` to before `end` into the last counts and times of
        their items."""
        after_N = self._right_after(half_life_days)
        if end == len(self) and end - begin > EVENTS_AT_ONCE:
            event_N, first_I = self._by_item
            met = np.flatnonzero(np.diff(first_I))
            last = first_I[1:][met] - 1
            after_I[met] = after_N[last]
            if half_life_days is not None and self.time is not None:
                time_I[met] = self.time[event_N[last]]
            return
        for number, first in enumerate(range(begin, end, EVENTS_AT_ONCE)):
            some = slice(first, min(first + EVENTS_AT_ONCE, end))
            item_n = self.item[some]
            after_I[item_n] = after_N[self._rank[some]]  # of equal items, the last one remains
            if half_life_days is not None and self.time is not None:
                time_I[item_n] = self.time[some]
            if number and number % PARTS_BETWEEN == 0:
                scratch.give_back()

    def counts_of(
        self,
        cut_time_M: IntArray,
        item_M: npt.NDArray[np.integer],
        half_life_days: float | None,
    ) -> Float32Array:
        """Return (M,) the count of one item before each cut time, as in `counts`.

        Many pairs in one call cost less than in many calls, since the events are summed once.

        Raises:
            ValueError: as for `counts`.
        """
        self._check(half_life_days)
        num_before_M, when_M = self._before(cut_time_M)
        event_N, first_I = self._by_item
        # Both keys sort by item, then by the number of events of any item before.
        sought_M = item_M * np.int64(len(self) + 1) + num_before_M
        order_M = np.argsort(sought_M)  # neighbouring keys are found near one another
        last_M = np.empty(len(item_M), np.int64)
        for number, (first, last) in enumerate(self._some_items):
            if number and number % PARTS_BETWEEN == 0:
                scratch.give_back()
            asked_M = order_M[slice(*np.searchsorted(item_M, (first, last), sorter=order_M))]
            if not len(asked_M):
                continue
            event_n = event_N[first_I[first] : first_I[last]]
            key_n = self.item[event_n] * np.int64(len(self) + 1) + event_n
            last_M[asked_M] = first_I[first] + np.searchsorted(key_n, sought_M[asked_M]) - 1
        met = np.flatnonzero(last_M >= first_I[item_M])
        after_N = self._right_after(half_life_days)
        scratch.give_back()
        count_m = after_N[last_M[met]]
        if half_life_days is not None:
            assert self.time is not None, "a half-life without times is refused"
            time_m = self.time[event_N[last_M[met]]]
            count_m = count_m * _aged(time_m, when_M[met], half_life_days)
        counts_M = np.zeros(len(item_M), np.float32)
        counts_M[met] = count_m
        return counts_M

    @functools.cached_property
    def _by_item(self) -> tuple[npt.NDArray[np.integer], IntArray]:
        """(N,) the positions of the events by item, then time, and (I + 1,) the offsets of the
        items."""
        return scratch.sorted_by(self.item, self.num_items)

    @functools.cached_property
    def _rank(self) -> npt.NDArray[np.integer]:
        """(N,) the place of each event among all by item, then time."""
        event_N, _ = self._by_item
        rank_N, first = scratch.empty(len(self), event_N.dtype), 0
        for event_n in scratch.pieces(event_N):
            rank_N[event_n] = np.arange(first, first + len(event_n))
            first += len(event_n)
        return rank_N

    @functools.cached_property
    def _some_items(self) -> list[tuple[int, int]]:
        """Ranges of items, each with few enough events that their arrays are small."""
        _, first_I = self._by_item
        parts = np.searchsorted(first_I, np.arange(0, len(self), EVENTS_AT_ONCE))
        borders = np.unique([0, *parts.tolist(), self.num_items])
        return list(itertools.pairwise(borders.tolist()))

    def _right_after(self, half_life_days: float | None) -> Float64Array:
        """Return (N,) the count of its item right after each event, by item, then time; cached for
        one half-life."""
        after_N = self._kept.get(half_life_days)
        if after_N is None:
            event_N, first_I = self._by_item
            after_N = scratch.empty(len(self), np.float64)
            for number, (first, last) in enumerate(self._some_items):
                some = slice(first_I[first], first_I[last])
                place_n = positions_of(np.diff(first_I[first : last + 1]))
                after_N[some] = self._summed(event_N[some], place_n, half_life_days)
                if number and number % PARTS_BETWEEN == 0:
                    scratch.give_back()
            scratch.give_back()
            self._kept.clear()  # as long as the history, so that only one is kept
            self._kept[half_life_days] = after_N
        return after_N

    def _summed(
        self, event_n: npt.NDArray[np.integer], place_n: IntArray, half_life_days: float | None
    ) -> Float64Array:
        """Return (n,) the count of its item right after each of some events.

        It computes sums over the last 1, 2, 4, … events of the item, each from two sums that are
        half as long (Hillis and Steele, Communications of the ACM, 1986).

        Args:
            event_n: the positions of the events by item, then time, with all events of each item.
            place_n: the place of each event among those of its item.
        """
        if half_life_days is None:
            return (place_n + 1).astype(np.float64)
        assert self.time is not None, "a half-life without times is refused"
        time_n, sum_n, length = self.time[event_n], np.ones(len(event_n)), 1
        while length <= place_n.max(initial=0):
            later = np.flatnonzero(place_n >= length)
            earlier = later - length
            sum_n[later] += sum_n[earlier] * _aged(time_n[earlier], time_n[later], half_life_days)
            length *= 2
        return sum_n

    def _check(self, half_life_days: float | None) -> None:
        if half_life_days is not None and not half_life_days > 0:
            raise ValueError(f"half_life_days is {half_life_days}; it must be above 0.")
        if half_life_days is not None and self.time is None:
            raise ValueError(
                "half_life_days must be None where events have no times: they have no age."
            )

    def _before(self, cut_time_B: IntArray) -> tuple[IntArray, IntArray]:
        """Return (B,) the number of events that count at each cut time, and (B,) the times to which
        ages are relative."""
        if self.time is None or len(self.time) == 0:
            return np.full(len(cut_time_B), len(self.item)), np.zeros(len(cut_time_B), np.int64)
        is_now_B = cut_time_B == schema.END_OF_TIME
        num_before_B = np.searchsorted(self.time, cut_time_B)
        return (
            np.where(is_now_B, len(self.time), num_before_B),
            np.where(is_now_B, self.time[-1], cut_time_B),
        )


def _aged(
    time: npt.NDArray[Any], when: npt.NDArray[np.int64] | np.int64, half_life_days: float
) -> Float64Array:
    """Return what events that count 1 when they happen still count at some times; 1 for later
    events, which stand for items without events."""
    halvings = (np.float64(when) - time) / (half_life_days * DAY)
    left: Float64Array = np.exp2(-np.maximum(halvings, 0.0))
    return left


def half_lives(history: ItemHistory) -> tuple[float | None, ...]:
    """Return the half-lives, in days, that are worth trying on a log, the shortest first. The last
    one, None, means that old events count as new ones do.

    With a half-life of more than half of the span, the oldest event still counts a quarter of the
    newest, which is almost the same as None.
    """
    return (*(days for days in CANDIDATES if days <= history.span_days / 2), None)
