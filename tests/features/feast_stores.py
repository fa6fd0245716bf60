"""Small real feature stores that read the same files through different offline stores."""

import datetime
import importlib.util
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64, String

POLARS = "recmeta.features.polars_offline_store.PolarsOfflineStore"
DUCKDB_INSTALLED = all(importlib.util.find_spec(name) for name in ("duckdb", "ibis"))
START = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)
TIME = pa.timestamp("us", tz="UTC")

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)

PROFILE_COLUMNS = pa.schema(
    [("user_id", pa.string()), ("since", TIME), ("written", TIME), ("Age", pa.int64())]
)
PRICE_COLUMNS = pa.schema(
    [("item_id", pa.int64()), ("event_timestamp", TIME), ("price", pa.float64())]
)


def at(minute: float | None) -> datetime.datetime | None:
    """Return a time by its minutes since START."""
    return None if minute is None else START + minute * MINUTE


def make_store(
    folder: Path,
    offline_store: str,
    *,
    data: Path | None = None,
    online: dict[str, str] | None = None,
) -> FeatureStore:
    """Return a store with a view of users (with a TTL) and one of items (without).

    Args:
        folder: of the registry and the online store.
        data: folder of profiles.parquet and prices.parquet; `folder` by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = data or folder
    profiles = FileSource(
        path=str(data / "profiles.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="since",
        created_timestamp_column="written",
        field_mapping={"Age": "age"},
    )
    prices = FileSource(
        path=str(data / "prices.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
    )
    if not (data / "profiles.parquet").exists():
        write_sources(data, [], [])
    store = FeatureStore(
        config=RepoConfig(
            project="test",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store=online or {"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": offline_store},
            materialization={"pull_latest_features": True},
            entity_key_serialization_version=3,
        )
    )
    store.apply(
        [
            USER,
            ITEM,
            FeatureView(
                name="profile",
                entities=[USER],
                ttl=3 * MINUTE,
                schema=[Field(name="user_id", dtype=String), Field(name="age", dtype=Int64)],
                source=profiles,
            ),
            FeatureView(
                name="price",
                entities=[ITEM],
                ttl=datetime.timedelta(0),
                schema=[Field(name="item_id", dtype=Int64), Field(name="price", dtype=Float64)],
                source=prices,
            ),
        ]
    )
    return store


def write_sources(folder: Path, profiles: list[tuple], prices: list[tuple]) -> None:
    """Write both sources.

    Args:
        profiles: rows of user_id, minute of `since`, minute of `written`, age.
        prices: rows of item_id, minute, price.
    """
    rows = [(key, at(since), at(written), age) for key, since, written, age in profiles]
    pq.write_table(_table(rows, PROFILE_COLUMNS), folder / "profiles.parquet")
    rows = [(key, at(minute), price) for key, minute, price in prices]
    pq.write_table(_table(rows, PRICE_COLUMNS), folder / "prices.parquet")


def entity_df(rows: list[tuple]) -> pd.DataFrame:
    """Return entity rows of user_id, item_id, minute, numbered by `label`."""
    return pd.DataFrame(
        {
            "user_id": pd.Series([row[0] for row in rows], dtype=object),
            "item_id": pd.array([row[1] for row in rows], dtype="Int64"),
            "event_timestamp": pd.Series([at(row[2]) for row in rows], dtype="datetime64[ns, UTC]"),
            "label": range(len(rows)),
        }
    )


def _table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    return pa.table(
        [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)], schema
    )
