"""The Polars offline store as a user of Feast meets it."""

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from feast import FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String
from feast_stores import ITEM, MINUTE, POLARS, START, USER, at, entity_df, make_store, write_sources

from recmeta.errors import UserError

FEATURES = ["profile:age", "price:price"]
PROFILES = [("a", 0, 0, 30), ("a", 2, 2, 31), ("b", 1, 5, 40), ("b", 1, 4, 41)]
PRICES = [(1, 0, 0.5), (1, 3, 0.75), (2, 1, 2.0)]
ROWS = [("b", 2, 9), ("a", 1, 2), ("a", 1, 2), ("b", 1, 1), ("nobody", None, 3)]
AGES = [None, 31, 31, 40, None]
COSTS = [2.0, 0.5, 0.5, 0.5, None]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write_sources(tmp_path, PROFILES, PRICES)
    return make_store(tmp_path, POLARS)


def column(frame: pd.DataFrame, name: str) -> list[Any]:
    return [None if pd.isna(value) else value for value in frame[name]]


def test_every_entity_row_comes_back_in_its_place(store: FeatureStore) -> None:
    asked = entity_df(ROWS)
    before = asked.copy()
    job = store.get_historical_features(asked, FEATURES)
    result = job.to_df()
    assert list(result.columns) == [*asked.columns, "age", "price"]
    assert list(result["label"]) == list(range(len(ROWS)))
    assert column(result, "age") == AGES
    assert column(result, "price") == COSTS
    pd.testing.assert_frame_equal(asked, before)
    assert set(job.metadata.keys) == {"user_id", "item_id", "label"}
    assert job.metadata.features == FEATURES
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (at(1), at(9))


@pytest.mark.parametrize("how", ["text", "naive", "mixed", "other name", "polars", "date"])
def test_times_however_they_are_told(store: FeatureStore, how: str) -> None:
    asked: Any = entity_df(ROWS)
    times = asked["event_timestamp"]
    name = "event_timestamp"
    if how == "text":
        asked[name] = times.astype(str)
    elif how == "naive":
        asked[name] = times.dt.tz_localize(None)
    elif how == "mixed":
        tokyo = times.dt.tz_convert("Asia/Tokyo").astype(object)
        asked[name] = tokyo.where(asked["label"] % 2 == 0, times.astype(object)).astype(object)
    elif how == "other name":
        name = "seen"
        asked = asked.rename(columns={"event_timestamp": name})
    elif how == "polars":
        asked = pl.from_pandas(asked)
    else:
        asked[name] = (times + pd.Timedelta(days=1)).dt.date
        asked = pl.from_pandas(asked)
    table = store.get_historical_features(asked, FEATURES).to_arrow()
    if how == "date":  # the midnight before, when no one was known any more
        assert table["age"].null_count == len(ROWS)
        assert table["price"].to_pylist() == [2.0, 0.75, 0.75, 0.75, None]
        return
    assert table["age"].to_pylist() == AGES
    assert table[name].cast(pa.timestamp("us", "UTC")).to_pylist() == [at(row[2]) for row in ROWS]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("SELECT * FROM users", "takes no SQL"),
        (pd.DataFrame({"user_id": ["a"]}), "0 columns of times"),
        (
            pd.DataFrame({"user_id": ["a"], "x": [at(0)], "y": [at(0)]}),
            r"2 columns of times \(x, y\)",
        ),
        (pd.DataFrame({"user_id": ["a"], "event_timestamp": ["noon"]}), "cannot read the times"),
        (pd.DataFrame({"event_timestamp": [at(0)]}), "needs the column 'user_id'"),
        (pd.DataFrame([["a", "a", at(0)]], columns=["user_id", "user_id", "t"]), "more than once"),
        (pl.DataFrame({"user_id": ["a"], "event_timestamp": ["noon"]}), "must hold times"),
    ],
)
def test_what_cannot_be_asked(store: FeatureStore, asked: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        store._get_provider().offline_store.get_historical_features(
            store.config,
            [store.get_feature_view("profile")],
            ["profile:age"],
            asked,
            store.registry,
            store.project,
        )


def test_full_names_and_other_names_for_keys(store: FeatureStore) -> None:
    service = FeatureService(
        name="pair",
        features=[
            store.get_feature_view("profile")
            .with_name("buyer")
            .with_join_key_map({"user_id": "buyer"}),
            store.get_feature_view("profile")
            .with_name("seller")
            .with_join_key_map({"user_id": "seller"}),
        ],
    )
    store.apply(service)
    asked = pd.DataFrame({"buyer": ["a"], "seller": ["b"], "event_timestamp": [at(2)]})
    result = store.get_historical_features(
        asked, store.get_feature_service("pair"), full_feature_names=True
    ).to_df()
    assert result[["buyer__age", "seller__age"]].to_numpy().tolist() == [[31, 40]]


def test_a_feature_does_not_overwrite_a_column(store: FeatureStore) -> None:
    asked = entity_df(ROWS).rename(columns={"label": "age"})
    with pytest.raises(UserError, match="full_feature_names"):
        store.get_historical_features(asked, FEATURES)
    result = store.get_historical_features(asked, FEATURES, full_feature_names=True).to_df()
    assert column(result, "profile__age") == AGES


def test_created_too_late_to_be_known(store: FeatureStore) -> None:
    asked = entity_df([("b", 1, 3), ("b", 1, 4)])
    job = store.get_historical_features(asked, ["profile:age"], filter_by_created_timestamp=True)
    assert column(job.to_df(), "age") == [None, 41]


def test_features_computed_on_demand(store: FeatureStore) -> None:
    @on_demand_feature_view(
        sources=[
            store.get_feature_view("price"),
            RequestSource(name="basket", schema=[Field(name="label", dtype=Int64)]),
        ],
        schema=[Field(name="total", dtype=Float64)],
    )
    def basket_total(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": inputs["price"] * inputs["label"]})

    store.apply(basket_total)
    result = store.get_historical_features(
        entity_df(ROWS), ["price:price", "basket_total:total"]
    ).to_df()
    assert column(result, "total") == [0.0, 0.5, 1.0, 1.5, None]


def test_all_entities_without_entity_rows(store: FeatureStore) -> None:
    job = store.get_historical_features(None, ["profile:age"], start_date=at(0), end_date=at(2))
    result = job.to_df()
    assert dict(zip(result["user_id"], result["age"], strict=True)) == {"a": 31, "b": 40}
    assert list(result["event_timestamp"].unique()) == [pd.Timestamp(at(2))]
    with pytest.raises(UserError, match="different entities"):
        store.get_historical_features(None, FEATURES, start_date=at(0), end_date=at(2))


@pytest.mark.parametrize("kind", ["file", "folder", "delta"])
def test_saved_datasets(store: FeatureStore, tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / ("saved.parquet" if kind == "file" else "saved"))
    storage = SavedDatasetFileStorage(
        path=path, file_format=DeltaFormat() if kind == "delta" else ParquetFormat()
    )

    def save(rows: list[tuple[Any, ...]], **options: Any) -> pd.DataFrame:
        job = store.get_historical_features(entity_df(rows), FEATURES)
        store.create_saved_dataset(job, "saved", storage, **options)
        return store.get_saved_dataset("saved").to_df()

    saved = save(ROWS)
    assert set(saved.columns) == {"user_id", "item_id", "event_timestamp", "age", "price"}
    assert sorted(column(saved, "age"), key=str) == sorted(AGES, key=str)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        save(ROWS)
    assert set(column(save(ROWS[:2], allow_overwrite=True), "age")) == {None, 31}


def profile_view(source: FileSource) -> FeatureView:
    return FeatureView(
        name="profile",
        entities=[USER],
        ttl=3 * MINUTE,
        schema=[Field(name="user_id", dtype=String), Field(name="age", dtype=Int64)],
        source=source,
    )


@pytest.mark.parametrize("kind", ["file", "folder", "delta", "delta by its log", "relative"])
def test_rows_are_read_where_they_are_and_added(
    store: FeatureStore, tmp_path: Path, kind: str
) -> None:
    there = pq.read_table(tmp_path / "profiles.parquet")
    path = tmp_path / "elsewhere"
    file_format = {"delta": DeltaFormat(), "delta by its log": None}.get(kind, ParquetFormat())
    if kind.startswith("delta"):
        write_deltalake(path, there)
    elif kind == "folder":
        path.mkdir()
        pq.write_table(there.slice(0, 2), path / "1.parquet")
        pq.write_table(there.slice(2), path / "2.parquet")
    else:
        path = path.with_suffix(".parquet")
        pq.write_table(there, path)
    store.repo_path = store.config.repo_path = tmp_path
    source = FileSource(
        path=path.name if kind == "relative" else str(path),
        file_format=file_format,
        timestamp_field="since",
        created_timestamp_column="written",
        field_mapping={"Age": "age"},
    )
    store.apply(profile_view(source))

    def ages() -> list[Any]:
        return column(
            store.get_historical_features(entity_df(ROWS), ["profile:age"]).to_df(), "age"
        )

    assert ages() == AGES
    new = pd.DataFrame({"Age": [50], "user_id": ["b"], "since": [at(8)], "written": [at(8)]})
    store.write_to_offline_store("profile", new)
    assert ages() == [50, *AGES[1:]]
    if kind.startswith("delta"):
        assert DeltaTable(path).version() == 1
    with pytest.raises(UserError, match="its source has user_id, since, written, Age"):
        store._get_provider().ingest_df_to_offline_store(
            store.get_feature_view("profile"), pa.table({"user_id": ["a"]})
        )


def test_missing_sources_are_named(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "profiles.parquet").unlink()
    with pytest.raises(UserError, match=r"nothing at .*profiles\.parquet"):
        store.get_historical_features(entity_df(ROWS), FEATURES)


def test_sources_are_checked(store: FeatureStore, tmp_path: Path) -> None:
    offline = store._get_provider().offline_store
    source = FileSource(path=str(tmp_path / "prices.parquet"), timestamp_field="when")
    with pytest.raises(UserError, match="no column 'when'; it has item_id"):
        offline.validate_data_source(store.config, source)
    request = RequestSource(name="basket", schema=[Field(name="label", dtype=Int64)])
    with pytest.raises(UserError, match="RequestSource"):
        offline.validate_data_source(store.config, request)
    offline.validate_data_source(store.config, store.get_feature_view("price").batch_source)


def test_online_features_are_the_latest_ones(store: FeatureStore) -> None:
    store.materialize(START, at(60))
    keys = [{"user_id": "a", "item_id": 1}, {"user_id": "b", "item_id": 3}]
    online = store.get_online_features(["price:price"], keys).to_dict()
    assert online["price"] == [0.75, None]


def test_rows_without_a_time_were_always_known(tmp_path: Path) -> None:
    write_sources(
        tmp_path, [("a", None, 0, 20), ("a", 2, 0, 21), ("b", None, 0, 30)], [(1, None, 1.0)]
    )
    store = make_store(tmp_path, POLARS)
    asked = entity_df([("a", 1, 1), ("a", 1, 3), ("b", 1, -99_999), ("b", 2, None)])
    result = store.get_historical_features(asked, FEATURES).to_df()
    assert column(result, "age") == [20, 21, 30, None]
    assert column(result, "price") == [1.0, 1.0, 1.0, None]
    store.materialize(at(0), at(1), feature_views=["price"])
    online = store.get_online_features(["price:price"], [{"item_id": 1}]).to_dict()
    assert online["price"] == [1.0]
    latest = store._get_provider().offline_store.pull_latest_from_table_or_query(
        store.config,
        store.get_feature_view("price").batch_source,
        ["item_id"],
        ["price"],
        "event_timestamp",
        None,
        at(0),
        at(1),
    )
    assert latest.to_arrow()["event_timestamp"].to_pylist() == [
        datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    ]


def test_a_view_of_one_thing_only(store: FeatureStore, tmp_path: Path) -> None:
    weather = pa.table({"event_timestamp": [at(0), at(2)], "degrees": [10.0, 12.0]})
    pq.write_table(weather, tmp_path / "weather.parquet")
    source = FileSource(path=str(tmp_path / "weather.parquet"), timestamp_field="event_timestamp")
    store.apply(
        FeatureView(
            name="weather",
            entities=[],
            ttl=datetime.timedelta(0),
            schema=[Field(name="degrees", dtype=Float64)],
            source=source,
        )
    )
    result = store.get_historical_features(entity_df(ROWS), ["weather:degrees"]).to_df()
    assert column(result, "degrees") == [12.0, 12.0, 12.0, 10.0, 12.0]
    store.materialize(START, at(60), feature_views=["weather"])
    assert store.get_online_features(["weather:degrees"], [{"__dummy_id": ""}]).to_dict()[
        "degrees"
    ] == [12.0]


def test_served_features_are_logged(store: FeatureStore, tmp_path: Path) -> None:
    destination = FileLoggingDestination(path=str(tmp_path / "log"))
    service = FeatureService(
        name="logged",
        features=[store.get_feature_view("price")],
        logging_config=LoggingConfig(destination=destination),
    )
    store.apply([ITEM, service])
    now = datetime.datetime.now(datetime.UTC)
    log = pa.table(
        {
            "item_id": pa.array([1, 2]),
            "price": [0.5, None],
            "price__timestamp": pa.array([at(0), None], pa.timestamp("us", "UTC")),
            "price__status": pa.array([2, 1], pa.int32()),
            "__log_timestamp": pa.array([now, now], pa.timestamp("us", "UTC")),
            "__log_date": pa.array([now.date()] * 2),
            "__request_id": ["r1", "r2"],
        }
    )
    for _ in range(2):
        store.write_logged_features(log, service)
    frame = pl.read_parquet(tmp_path / "log")
    assert sorted(frame["__request_id"]) == ["r1", "r1", "r2", "r2"]
