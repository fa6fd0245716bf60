"""Activity tables against counting by hand, on random logs."""

import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta import schema
from recmeta.features.activity import activity

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
HOURS = st.integers(0, 24 * 40)
EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), HOURS | st.none(), st.integers(1, 5)), min_size=1, max_size=25
)


def interactions(events: list[tuple[Any, ...]]) -> pl.LazyFrame:
    columns = {schema.USER_ID: pl.String, "hour": pl.Int64, schema.VALUE: pl.Float64}
    return pl.LazyFrame(events, schema=columns, orient="row").select(
        schema.USER_ID,
        pl.lit("i").alias(schema.ITEM_ID),
        (pl.lit(START) + pl.duration(hours="hour")).alias(schema.TIMESTAMP),
        schema.VALUE,
    )


def expected(events: list[tuple[Any, ...]], user: str, day: datetime.datetime) -> dict[str, Any]:
    """Every number of a day, counted anew."""
    numbers: dict[str, Any] = {}
    for end, days in (("", 10_000), *((f"_{d}d", d) for d in schema.ACTIVITY_WINDOWS)):
        since = day - datetime.timedelta(days=days)
        values = [
            value
            for who, hour, value in events
            if who == user and hour is not None
            if since <= START + datetime.timedelta(hours=hour) < day
        ]
        numbers[schema.NUM_INTERACTIONS + end] = len(values)
        numbers[schema.MEAN_VALUE + end] = sum(values) / len(values) if values else None
    return numbers


@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_the_newest_row_holds_on_every_day(events: list[tuple[Any, ...]]) -> None:
    table = activity(interactions(events), schema.USER_ACTIVITY).collect()
    for user in "ab":
        rows = table.filter(pl.col(schema.USER_ID) == user)
        for offset in range(80):
            day = START + datetime.timedelta(days=offset)
            known = rows.filter(pl.col(schema.TIMESTAMP) <= day).tail(1)
            numbers = known.drop(schema.USER_ID, schema.TIMESTAMP).to_dicts()
            assert (numbers or [expected([], user, day)]) == [expected(events, user, day)]


@pytest.mark.parametrize("table", [schema.USER_ACTIVITY, schema.ITEM_ACTIVITY])
def test_the_rows_are_those_of_the_table(table: schema.Table) -> None:
    frame = activity(interactions([("a", 0, 1), ("b", 24, 2), ("b", None, 3)]), table).collect()
    assert frame.to_arrow().cast(table.columns).schema == table.columns
    assert not frame.select(table.key).is_duplicated().any()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_changes_no_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = interactions(
        [("ab"[n % 2], int(random.integers(48)), float(random.random())) for n in range(400)]
    ).collect()
    shuffled = rows.sample(fraction=1, shuffle=True, seed=seed % 1000)
    tables = [activity(frame.lazy(), schema.USER_ACTIVITY).collect() for frame in (rows, shuffled)]
    assert tables[0].equals(tables[1])
