"""Sources and saved datasets in an object store, against a local server that speaks S3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from feast import FeatureStore, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat, FileFormat, ParquetFormat
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Int64, String
from feast_stores import MINUTE, POLARS, USER, at, entity_df, make_store, write_sources
from object_store import object_store

pytestmark = pytest.mark.timeout(60)
PROFILES = [("a", 0, 0, 30), ("a", 2, 2, 31)]


def client(endpoint: str) -> Any:
    import boto3  # comes with moto

    return boto3.client("s3", endpoint_url=endpoint)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write_sources(tmp_path, PROFILES, [])
    return make_store(tmp_path, POLARS)


@pytest.mark.parametrize(
    ("name", "file_format", "override"),
    [
        ("table", DeltaFormat(), True),
        ("found", None, True),
        ("file.parquet", ParquetFormat(), True),
        ("folder", ParquetFormat(), True),
        ("environment", DeltaFormat(), False),
        ("environment.parquet", None, False),
    ],
)
def test_rows_are_read_added_and_saved(
    endpoint: str,
    store: FeatureStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file_format: FileFormat | None,
    override: bool,
) -> None:
    if not override:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    there = pq.read_table(tmp_path / "profiles.parquet")
    path = f"s3://bucket/{name}"
    if name.endswith(".parquet") or name == "folder":
        key = f"{name}/1.parquet" if name == "folder" else name
        client(endpoint).upload_file(str(tmp_path / "profiles.parquet"), "bucket", key)
    else:
        options = {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
        write_deltalake(path, there, storage_options=options)
    address = endpoint if override else None
    source = FileSource(
        path=path,
        file_format=file_format,
        timestamp_field="since",
        created_timestamp_column="written",
        field_mapping={"Age": "age"},
        s3_endpoint_override=address,
    )
    store.apply(
        FeatureView(
            name="profile",
            entities=[USER],
            ttl=3 * MINUTE,
            schema=[Field(name="user_id", dtype=String), Field(name="age", dtype=Int64)],
            source=source,
        )
    )
    new = pd.DataFrame({"user_id": ["b"], "since": [at(1)], "written": [at(1)], "Age": [40]})
    store.write_to_offline_store("profile", new)
    job = store.get_historical_features(entity_df([("a", 1, 2), ("b", 1, 2)]), ["profile:age"])
    assert list(job.to_df()["age"]) == [31, 40]
    storage = SavedDatasetFileStorage(
        path=f"s3://bucket/saved-{name}",
        file_format=DeltaFormat() if isinstance(file_format, DeltaFormat) else ParquetFormat(),
        s3_endpoint_override=address,
    )
    store.create_saved_dataset(job, "saved", storage, allow_overwrite=True)
    assert sorted(store.get_saved_dataset("saved").to_df()["age"]) == [31, 40]
