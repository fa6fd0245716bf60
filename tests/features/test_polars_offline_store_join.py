"""The as-of join against a plain reading of its rules, on random rows."""

import datetime
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.features.offline.point_in_time import FeatureLookup, point_in_time_join

Unit = Literal["us", "ns", "ms"]
START = datetime.datetime(2024, 3, 1)
KEYS = st.sampled_from(["a", "a", "a", "b", None])
OTHER_KEYS = st.sampled_from([1, 1, 1, 2])
MINUTES = st.integers(-3, 4) | st.none()
SOURCE = {
    "key": pl.String,
    "second": pl.Int32,
    "time": pl.Int64,
    "created": pl.Int64,
    "value": pl.Int64,
}


def asked(rows: list[tuple[Any, ...]], unit: Unit) -> pl.LazyFrame:
    columns = {"key": pl.String, "other": pl.Int64, "time": pl.Int64}
    frame = pl.LazyFrame(rows, schema=columns, orient="row")
    return frame.with_columns(times("time", unit).dt.replace_time_zone("UTC"))


def times(name: str, unit: Unit) -> pl.Expr:
    moment = pl.lit(START) + pl.duration(minutes=pl.col(name))
    return moment.cast(pl.Datetime(unit)).alias(name)


def newest(
    rows: list[tuple[Any, ...]],
    entity: tuple[Any, ...],
    ttl: int | None,
    created_before: bool,
) -> int | None:
    """The rules, one after the other."""
    key, other, now = entity
    best = None
    for place, (row_key, row_other, time, created, value) in enumerate(rows):
        if now is None or None in (key, other) or (row_key, row_other) != (key, other):
            continue
        if time is not None and time > now:
            continue
        if created_before and time is not None and (created is None or created > now):
            continue
        age = (
            -99 if time is None else time,
            -99 if created is None else created,
            place,
        )
        if best is None or age > best[0]:
            best = (age, value, bool(ttl and time is not None and time < now - ttl))
    if best is None:
        return None
    _, value, expired = best
    return None if expired else value


@settings(max_examples=300, deadline=None)
@given(
    entities=st.lists(st.tuples(KEYS, OTHER_KEYS | st.none(), MINUTES), max_size=12),
    rows=st.lists(st.tuples(KEYS, OTHER_KEYS, MINUTES, MINUTES, st.integers(0, 99)), max_size=12),
    ttl=st.sampled_from([None, 0, 1, 2]),
    created_before=st.booleans(),
    units=st.tuples(st.sampled_from(["us", "ns", "ms"]), st.sampled_from(["us", "ns"])),
)
def test_the_join_is_its_rules(
    entities: list[tuple[Any, ...]],
    rows: list[tuple[Any, ...]],
    ttl: int | None,
    created_before: bool,
    units: tuple[Unit, Unit],
) -> None:
    source = pl.LazyFrame(rows, schema=SOURCE, orient="row")
    lookup = FeatureLookup(
        view="view",
        rows=source.with_columns(times("time", units[0]), times("created", units[0])),
        keys={"key": "key", "second": "other"},
        time="time",
        created="created",
        ttl=None if ttl is None else datetime.timedelta(minutes=ttl),
        features={"value": "feature"},
    )
    frame = asked(entities, units[1])
    result = point_in_time_join(frame, "time", [lookup], created_before=created_before).collect()
    assert result.drop("feature").equals(frame.collect())
    expected = [newest(rows, entity, ttl, created_before) for entity in entities]
    assert result["feature"].to_list() == expected


def simple_lookup(**changes: Any) -> FeatureLookup:
    fields: dict[str, Any] = {
        "view": "view",
        "rows": pl.LazyFrame({"key": ["a"], "time": [START], "value": [1]}),
        "keys": {"key": "key"},
        "time": "time",
        "created": None,
        "ttl": None,
        "features": {"value": "feature"},
    }
    return FeatureLookup(**fields | changes)


def joined(frame: pl.LazyFrame, **changes: Any) -> pl.DataFrame:
    return point_in_time_join(frame, "time", [simple_lookup(**changes)]).collect()


def test_what_is_created_out_of_order() -> None:
    """Event 1 is written before event 0: what is written late about the past changes nothing."""
    rows = pl.LazyFrame(
        [("a", 1, 0, 3, 10), ("a", 1, 1, 2, 11)], schema=SOURCE, orient="row"
    ).with_columns(times("time", "us"), times("created", "us"))
    frame = asked([("a", 1, minute) for minute in (1, 2, 3)], "us")
    lookup = simple_lookup(rows=rows, created="created")
    result = point_in_time_join(frame, "time", [lookup], created_before=True).collect()
    assert result["feature"].to_list() == [None, 11, 11]


def test_nanoseconds_are_not_rounded_into_the_future() -> None:
    later = pl.LazyFrame({"key": ["a"], "time": [START], "value": [1]}).with_columns(
        pl.col("time").cast(pl.Datetime("ns")) + pl.duration(nanoseconds=2)
    )
    frame = asked([("a", 1, 0)], "ns").with_columns(pl.col("time") + pl.duration(nanoseconds=1))
    assert joined(frame, rows=later)["feature"].to_list() == [None]


def test_a_time_in_another_zone_is_the_same_instant() -> None:
    rows = simple_lookup().rows.with_columns(
        pl.col("time").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    )
    assert joined(asked([("a", 1, -1), ("a", 1, 0)], "us"), rows=rows)["feature"].to_list() == [
        None,
        1,
    ]


def test_a_ttl_longer_than_any_time() -> None:
    lifetime = datetime.timedelta.max
    for unit in ("us", "ns"):
        rows = simple_lookup().rows.with_columns(pl.col("time").cast(pl.Datetime(unit)))
        assert joined(asked([("a", 1, 9)], unit), rows=rows, ttl=lifetime)["feature"].to_list() == [
            1
        ]


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        (pl.Series([1, 2, 300], dtype=pl.Int64), [7, None, None]),
        (pl.Series([1.0, 1.5, None], dtype=pl.Float64), [7, None, None]),
        (pl.Series([None, None, None], dtype=pl.Null), [None, None, None]),
    ],
)
def test_keys_meet_across_number_types(have: pl.Series, expected: list[int | None]) -> None:
    frame = asked([("a", 1, 0)] * 3, "us").with_columns(have.alias("key"))
    rows = pl.LazyFrame(
        {"key": [1], "time": [START], "value": [7]}, schema_overrides={"key": pl.Int8}
    )
    assert joined(frame, rows=rows)["feature"].to_list() == expected


def test_categorical_keys() -> None:
    frame = asked([("a", 1, 0), ("b", 1, 0)], "us").with_columns(pl.col("key").cast(pl.Categorical))
    assert joined(frame)["feature"].to_list() == [1, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": {"key": "nobody"}}, "needs the column 'nobody'"),
        ({"keys": {"key": "other"}}, "'other' is of type Int64"),
        ({"keys": {"absent": "key"}}, "no column 'absent'"),
        ({"features": {"absent": "feature"}}, "no column 'absent'"),
        ({"features": {"value": "other"}}, "would overwrite"),
        ({"time": "value"}, "must hold times"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        joined(asked([("a", 1, 0)], "us"), **changes)


def test_without_keys_there_is_one_entity() -> None:
    assert joined(asked([("a", 1, 0), (None, 1, -1)], "us"), keys={})["feature"].to_list() == [
        1,
        None,
    ]
