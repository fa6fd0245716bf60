"""Counts over all rows of a log, block by block, from which it is described.

They grow with the numbers of users and items, but not with the number of rows.
"""

import datetime

import polars as pl

from recmeta.logs.checking.conflicts import Settled, categories
from recmeta.logs.mapping import EARLIEST_TIME, LogMapping
from recmeta.schema import EVENT, FILE, ITEM_ID, LINE, RATING_EVENT, TIMESTAMP, USER_ID, VALUE

NUM_PLACES = 3
NUM_ENDS = 2
"""The number of lowest, and of highest, values that are kept."""
MICROSECONDS_AN_HOUR = 3_600_000_000
_HOUR, _NUM_ROWS = "hour", "num_rows"


class Tally:
    """Counts of the rows that keep every rule, and of those that remain after deduplication."""

    def __init__(self, earliest_time: str = EARLIEST_TIME) -> None:
        """Count nothing yet.

        Args:
            earliest_time: as `LogMapping.earliest_time`.
        """
        earliest = datetime.date.fromisoformat(earliest_time)
        self._earliest = datetime.datetime.combine(earliest, datetime.time(), datetime.UTC)
        self.num_rows = 0
        self.first: datetime.datetime | None = None
        self.last: datetime.datetime | None = None
        self.num_old = 0
        """Rows before `earliest_time`."""
        self.old_places: list[tuple[str, int]] = []
        """File and line of the first of them."""
        self.has_null_times = False
        self.num_ratings = 0
        self._hours = pl.DataFrame(schema={_HOUR: pl.Int64, _NUM_ROWS: pl.UInt32})
        self._levels = pl.DataFrame(schema={VALUE: pl.Float64, _NUM_ROWS: pl.UInt32})
        self.num_levels = 0
        """The number of distinct values of ratings: a lower bound, which is exact if it is
        small."""
        self._users: list[pl.DataFrame] = []
        self._items: list[pl.Series] = []

    @classmethod
    def of(cls, mapping: LogMapping, rows: pl.DataFrame, settled: Settled) -> "Tally":
        """Return the counts of a log in memory."""
        tally = cls(mapping.earliest_time)
        tally.add(rows)
        tally.add_settled(settled.encoded)
        return tally

    def add(self, rows: pl.DataFrame) -> None:
        """Count in rows that keep every rule, as `contracts.check` returns them."""
        self.num_rows += rows.height
        times = rows[TIMESTAMP]
        self.has_null_times |= times.null_count() > 0
        if times.null_count() < rows.height:
            self._add_times(rows, times)
        self._add_values(rows)

    def add_settled(self, rows: pl.DataFrame) -> None:
        """Count in settled rows, as `Settled.encoded`."""
        users = rows[USER_ID].to_physical().rle().struct.unnest().select("value", "len")
        ids = categories(rows[USER_ID])
        self._users.append(users.with_columns(ids[users["value"]].alias("value")))
        self._items.append(categories(rows[ITEM_ID]).alias(ITEM_ID))

    def unsettle(self) -> None:
        """Forget all settled rows, which are settled again."""
        self._users, self._items = [], []

    def rows_of_users(self) -> pl.DataFrame:
        """Return how many settled rows (`len`) each user (`value`) has, sorted by user."""
        if len(self._users) == 1:
            return self._users[0]
        users = pl.concat(
            self._users or [pl.DataFrame(schema={"value": pl.String, "len": pl.UInt32})]
        )
        return users.group_by("value").agg(pl.col("len").sum()).sort("value")

    def items(self) -> pl.Series:
        """Return the ids of the items that occur, sorted."""
        items = pl.concat(self._items or [pl.Series(ITEM_ID, [], pl.String)])
        return (items if len(self._items) == 1 else items.unique()).sort()

    def hours(self) -> pl.Series:
        """Return the hours since 1970 in which there are rows, sorted."""
        return self._hours[_HOUR].sort()

    def median_time(self) -> float:
        """Return the median of the times in microseconds since 1970, to the hour."""
        hours = self._hours.sort(_HOUR)
        place = (hours[_NUM_ROWS].cum_sum() * 2 >= hours[_NUM_ROWS].sum()).arg_max() or 0
        return float(hours[_HOUR][place] * MICROSECONDS_AN_HOUR)

    def lowest(self) -> list[tuple[float, int]]:
        """Return the lowest values of ratings and how many rows have each."""
        return self._levels.sort(VALUE).head(NUM_ENDS).rows()

    def highest(self) -> list[tuple[float, int]]:
        """Return the highest ones, in rising order."""
        return self._levels.sort(VALUE).tail(NUM_ENDS).rows()

    def _add_times(self, rows: pl.DataFrame, times: pl.Series) -> None:
        first, last = times.min(), times.max()
        assert isinstance(first, datetime.datetime)
        assert isinstance(last, datetime.datetime)
        self.first = min(first, self.first or first)
        self.last = max(last, self.last or last)
        if first < self._earliest:
            old = rows.filter(times < self._earliest)
            self.num_old += old.height
            left = NUM_PLACES - len(self.old_places)
            self.old_places += old.select(FILE, LINE).head(left).rows()
        hours = (times.drop_nulls().to_physical() // MICROSECONDS_AN_HOUR).alias(_HOUR)
        counts = hours.to_frame().group_by(_HOUR).agg(pl.len().alias(_NUM_ROWS))
        self._hours = _summed(pl.concat([self._hours, counts]), _HOUR)

    def _add_values(self, rows: pl.DataFrame) -> None:
        ratings = rows.filter(pl.col(EVENT) == RATING_EVENT)[VALUE]
        self.num_ratings += len(ratings)
        counts = ratings.to_frame().group_by(VALUE).agg(pl.len().alias(_NUM_ROWS))
        levels = _summed(pl.concat([self._levels, counts]), VALUE).sort(VALUE)
        self.num_levels = max(self.num_levels, levels.height)
        if levels.height > 2 * NUM_ENDS:
            levels = pl.concat([levels.head(NUM_ENDS), levels.tail(NUM_ENDS)])
        self._levels = levels


def _summed(counts: pl.DataFrame, name: str) -> pl.DataFrame:
    return counts.group_by(name).agg(pl.col(_NUM_ROWS).sum())
