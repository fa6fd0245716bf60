"""What had been seen of items before a time, against counting the events one by one."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta import schema
from recmeta.features.item_statistics import (
    Events,
    StatisticsConfig,
    as_table,
    item_tallies,
    snapshot_times,
)

NUM_ITEMS = 4
events = st.lists(
    st.tuples(
        st.integers(0, NUM_ITEMS - 1), st.sampled_from([1.0, 2.5, 5.0]), st.integers(-20, 20)
    ),
    max_size=40,
)


def columns(log: list[tuple[int, float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([i for i, _, _ in log], np.int32),
        np.array([v for _, v, _ in log], np.float32),
        np.array([t for _, _, t in log], np.int64),
    )


def halves(column: np.ndarray) -> list[np.ndarray]:
    return np.array_split(column, 2)


def pieces(item: np.ndarray, value: np.ndarray, time: np.ndarray) -> list[Events]:
    return [Events(*piece) for piece in zip(halves(item), halves(value), halves(time), strict=True)]


@given(events, st.integers(2, 12))
def test_a_snapshot_holds_the_events_strictly_before_it(
    log: list[tuple[int, float, int]], num_snapshots: int
) -> None:
    item, value, time = columns(log)
    config = StatisticsConfig(num_snapshots=num_snapshots)
    times = snapshot_times(len(time), lambda: halves(time), NUM_ITEMS, config)
    assert times[0] == schema.ALWAYS
    assert times[-1] == schema.END_OF_TIME
    assert (times[1:] > times[:-1]).all()
    assert 2 <= len(times) <= num_snapshots
    found = item_tallies(pieces(item, value, time), times, NUM_ITEMS).rounded()
    for snapshot, moment in enumerate(times):
        for number in range(NUM_ITEMS):
            seen = [v for i, v, t in log if i == number and t < moment]
            assert found.num_users[snapshot, number] == len(seen)
            assert found.sum_values[snapshot, number] == sum(seen)


@given(events)
def test_without_times_everything_is_before_the_end(log: list[tuple[int, float, int]]) -> None:
    item, value, _ = columns(log)
    times = snapshot_times(len(item), None, NUM_ITEMS, StatisticsConfig())
    found = item_tallies([Events(item, value, None)], times, NUM_ITEMS).rounded()
    assert not found.num_users[0].any()
    assert found.num_users[-1].tolist() == np.bincount(item, minlength=NUM_ITEMS).tolist()


@given(events, st.integers(2, 12))
def test_the_table_says_the_same_as_the_matrix(
    log: list[tuple[int, float, int]], num_snapshots: int
) -> None:
    """Reading the newest row as of any time gives what the snapshots give."""
    item, value, time = columns(log)
    config = StatisticsConfig(num_snapshots=num_snapshots)
    times = snapshot_times(len(time), lambda: halves(time), NUM_ITEMS, config)
    found = item_tallies(pieces(item, value, time), times, NUM_ITEMS).rounded()
    table = as_table(found, pl.Series([f"i{n}" for n in range(NUM_ITEMS)]))
    micros = table["timestamp"].dt.timestamp("us")
    for now in range(-21, 22):
        snapshot = np.searchsorted(times, now, side="right") - 1
        for number in range(NUM_ITEMS):
            rows = table.filter((pl.col("item_id") == f"i{number}") & (micros <= now))
            expected = found.num_users[snapshot, number]
            assert (rows["num_users"][-1] if len(rows) else 0) == expected
            total = rows["sum_values"][-1] if len(rows) else 0.0
            assert total == found.sum_values[snapshot, number]


def test_a_huge_catalogue_gets_fewer_snapshots() -> None:
    time = np.arange(1000)
    assert len(snapshot_times(1000, lambda: [time], 10**9, StatisticsConfig())) == 2
    assert len(snapshot_times(1000, lambda: [time], 10, StatisticsConfig(num_snapshots=8))) == 8


def test_one_snapshot_is_too_few() -> None:
    with pytest.raises(ValueError, match="num_snapshots is 1"):
        StatisticsConfig(num_snapshots=1)
