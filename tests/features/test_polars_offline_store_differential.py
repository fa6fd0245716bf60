"""The same answers as Feast's own offline stores, on random files and entity rows.

The Dask store returns one row for each distinct key of the first view and time, in another order,
and drops rows of entities of which it only knows what is too old or too new; elsewhere it must
agree. Of rows of one event time it finds the newest created only by luck, since it sorts twice by
an unstable method, so here it gets none. The DuckDB store returns every row, in another order.
"""

import itertools
import math
import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast_stores import (
    DUCKDB_INSTALLED,
    POLARS,
    at,
    entity_df,
    make_store,
    write_sources,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FEATURES = ["profile:age", "price:price"]
USERS = st.sampled_from(["a", "b", "c"])
ITEMS = st.sampled_from([1, 2, 3])
MINUTES = st.integers(0, 6)
ROWS = st.tuples(USERS, MINUTES, MINUTES, st.integers(0, 99))
PROFILES = st.lists(ROWS, min_size=12, max_size=25, unique_by=lambda row: row[:3])
UNTIED_PROFILES = st.lists(ROWS, min_size=8, max_size=18, unique_by=lambda row: row[:2])
PRICES = st.lists(
    st.tuples(ITEMS, MINUTES, st.floats(0, 1)),
    min_size=6,
    max_size=15,
    unique_by=lambda row: row[:2],
)
ENTITIES = st.lists(
    st.tuples(USERS | st.none(), ITEMS | st.none(), MINUTES | st.none()), min_size=12, max_size=25
)
ZONES = st.sampled_from([None, "UTC", "Asia/Tokyo", "America/New_York"])
EXAMPLES = settings(
    max_examples=40 if os.environ.get("RECMETA_SLOW") == "1" else 6,
    phases=[Phase.generate],  # to shrink what Dask takes minutes for would not end
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def polars_store(data: Path) -> FeatureStore:
    return make_store(data / "polars", POLARS, data=data)


@pytest.fixture(scope="module")
def dask_store(data: Path) -> FeatureStore:
    return make_store(data / "dask", "dask", data=data)


@pytest.fixture(scope="module")
def duckdb_store(data: Path) -> FeatureStore:
    if not DUCKDB_INSTALLED:
        pytest.skip("Feast's DuckDB store needs ibis-framework[duckdb]")
    return make_store(data / "duckdb", "duckdb", data=data)


def in_zone(frame: pd.DataFrame, zone: str | None) -> pd.DataFrame:
    """The same instants, told in another zone, or in UTC without saying so."""
    return frame.assign(event_timestamp=frame["event_timestamp"].dt.tz_convert(zone))


def answers(
    store: FeatureStore, frame: pd.DataFrame, features: list[str] = FEATURES, **options: Any
) -> list[dict[str, Any]]:
    """The result's rows, every kind of missing value as None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = store.get_historical_features(frame, features, **options).to_df()
    rows: list[dict[str, Any]] = (
        result.astype(object).where(result.notna(), None).to_dict("records")
    )
    return rows


def keyed(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Features by keys and time."""
    return {
        (row["user_id"], row["item_id"], row["event_timestamp"]): (row["age"], row["price"])
        for row in rows
    }


@EXAMPLES
@given(profiles=UNTIED_PROFILES, prices=PRICES, entities=ENTITIES, zone=ZONES, cutoff=st.booleans())
def test_dask_agrees(
    data: Path,
    polars_store: FeatureStore,
    dask_store: FeatureStore,
    profiles: list[tuple[Any, ...]],
    prices: list[tuple[Any, ...]],
    entities: list[tuple[Any, ...]],
    zone: str | None,
    cutoff: bool,
) -> None:
    write_sources(data, profiles, prices)
    frame = in_zone(entity_df(entities), zone)
    ours = answers(polars_store, frame, filter_by_created_timestamp=cutoff)
    theirs = keyed(answers(dask_store, frame, filter_by_created_timestamp=cutoff))
    assert [row["label"] for row in ours] == list(range(len(frame)))
    kept = {(user, now) for user, _, now in theirs}
    for key, features in keyed(ours).items():
        if key in theirs:
            assert features == theirs[key]
        else:
            assert None in features or (key[0], key[2]) in kept


@EXAMPLES
@given(profiles=PROFILES, prices=PRICES, entities=ENTITIES, zone=ZONES, cutoff=st.booleans())
def test_duckdb_agrees(
    data: Path,
    polars_store: FeatureStore,
    duckdb_store: FeatureStore,
    profiles: list[tuple[Any, ...]],
    prices: list[tuple[Any, ...]],
    entities: list[tuple[Any, ...]],
    zone: str | None,
    cutoff: bool,
) -> None:
    write_sources(data, profiles, prices)
    frame = in_zone(entity_df(entities), zone)
    ours = answers(polars_store, frame, filter_by_created_timestamp=cutoff)
    theirs = answers(duckdb_store, frame, filter_by_created_timestamp=cutoff)
    assert ours == sorted(theirs, key=lambda row: row["label"])


@EXAMPLES
@given(profiles=UNTIED_PROFILES, start=MINUTES, length=st.integers(0, 6))
def test_the_latest_rows_agree_with_dask(
    data: Path,
    polars_store: FeatureStore,
    dask_store: FeatureStore,
    profiles: list[tuple[Any, ...]],
    start: int,
    length: int,
) -> None:
    write_sources(data, profiles, [])

    def pulled(store: FeatureStore, latest: bool) -> list[dict[str, Any]]:
        offline = store._get_provider().offline_store
        pull = (
            offline.pull_latest_from_table_or_query
            if latest
            else offline.pull_all_from_table_or_query
        )
        job = pull(
            config=store.config,
            data_source=store.get_feature_view("profile").batch_source,
            join_key_columns=["user_id"],
            feature_name_columns=["Age"],
            timestamp_field="since",
            created_timestamp_column="written",
            start_date=at(start),
            end_date=at(start + length),
        )
        table: pa.Table = job.to_arrow()
        rows = table.select(["user_id", "since", "written", "Age"]).to_pylist()
        return sorted(rows, key=lambda row: tuple(row.values()))

    for latest in (True, False):
        assert pulled(polars_store, latest) == pulled(dask_store, latest)


@EXAMPLES
@given(profiles=UNTIED_PROFILES, minute=MINUTES)
def test_without_entity_rows_all_users_are_as_dask_says(
    data: Path,
    polars_store: FeatureStore,
    dask_store: FeatureStore,
    profiles: list[tuple[Any, ...]],
    minute: int,
) -> None:
    write_sources(data, profiles, [])

    def snapshot(store: FeatureStore) -> dict[str, Any]:
        job = store.get_historical_features(
            None, ["profile:age"], start_date=at(minute - 3), end_date=at(minute)
        )
        result = job.to_df()
        return dict(zip(result["user_id"], result["age"], strict=True))

    theirs = {user: age for user, age in snapshot(dask_store).items() if not _missing(age)}
    assert snapshot(polars_store) == theirs


def test_every_ttl_edge(
    data: Path, polars_store: FeatureStore, dask_store: FeatureStore, tmp_path: Path
) -> None:
    """The last instant of a row of minute 0 with a TTL of three minutes, and those around it."""
    write_sources(data, [("a", 0, 0, 30)], [(1, 0, 0.5)])
    microsecond = 1 / 60_000_000
    minutes = list(itertools.chain(*((m - microsecond, m, m + microsecond) for m in (0, 3))))
    frame = entity_df([("a", 1, minute) for minute in minutes])
    ours = [row["age"] for row in answers(polars_store, frame, ["profile:age"])]
    assert ours == [None, 30, 30, 30, 30, None]
    theirs = answers(dask_store, frame, ["profile:age"])
    assert [row["label"] for row in theirs] == [1, 2, 3, 4]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
