"""Point-in-time features of 100,000 entity rows: recmeta's store compared with Feast's Dask and
DuckDB stores.

All stores read the same Parquet file through `FeatureStore.get_historical_features(...).to_df()`.
Their answers are compared before a time is printed: DuckDB's must be ours row by row; Dask's, which
has one row per key and time and none where nothing was known, wherever it has one. Times are the
best of the repeats (of two for Dask), so that the first call's imports do not count.
"""

import dataclasses
import datetime
import importlib.util
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64

from benchmarks.speed.processes import measure_alone
from benchmarks.speed.result import BenchmarkResult, machine

OFFLINE_STORES = {
    "recmeta": "recmeta.features.polars_offline_store.PolarsOfflineStore",
    "feast-duckdb": "duckdb",
    "feast-dask": "dask",
}
KEY, EVENT, CREATED = "user_id", "event_timestamp", "created"
FEATURES = ["num_interactions", "mean_value"]
TTL = datetime.timedelta(days=30)
YEAR = 365 * 86_400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """The sizes of the request and of the source."""

    num_entities: int = 100_000
    """The number of entity rows, and of rows of the source."""
    rows_per_key: int = 10
    """The number of rows of the source for each key."""

    def source(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return the feature rows."""
        rows = self.entities(rng)
        return rows.assign(
            **{
                CREATED: rows[EVENT],
                FEATURES[0]: rng.integers(0, 500, len(rows)),
                FEATURES[1]: rng.random(len(rows)),
            }
        ).drop_duplicates([KEY, EVENT])

    def entities(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return keys and times, drawn evenly."""
        keys = rng.integers(0, max(1, self.num_entities // self.rows_per_key), self.num_entities)
        seconds = rng.integers(0, YEAR, self.num_entities)
        start = pd.Timestamp("2024-01-01", tz="UTC")
        return pd.DataFrame({KEY: keys, EVENT: start + pd.to_timedelta(seconds, unit="s")})


def open_store(folder: Path, name: str) -> FeatureStore:
    """Return a feature store over folder/features.parquet."""
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(folder / f"{name}.db"),
            online_store={"type": "sqlite", "path": str(folder / f"{name}.sqlite")},
            offline_store={"type": OFFLINE_STORES[name]},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=[KEY], value_type=ValueType.INT64)
    source = FileSource(
        path=str(folder / "features.parquet"),
        file_format=ParquetFormat(),
        timestamp_field=EVENT,
        created_timestamp_column=CREATED,
    )
    fields = [Field(name=KEY, dtype=Int64), Field(name=FEATURES[0], dtype=Int64)]
    fields.append(Field(name=FEATURES[1], dtype=Float64))
    store.apply(
        [user, FeatureView(name="v", entities=[user], ttl=TTL, schema=fields, source=source)]
    )
    return store


def best_time(store: FeatureStore, asked: pd.DataFrame, repeats: int) -> tuple[float, pl.DataFrame]:
    """Return the seconds of the fastest call, and its answer."""
    seconds = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        job = store.get_historical_features(asked.copy(), [f"v:{name}" for name in FEATURES])
        answer = job.to_df()
        seconds = min(seconds, time.perf_counter() - began)
    return seconds, in_order(answer)


def in_order(answer: pd.DataFrame) -> pl.DataFrame:
    """Return one row per key and time, in a fixed order and in the same types."""
    frame = pl.from_pandas(answer).select(KEY, EVENT, *FEATURES)
    frame = frame.cast({FEATURES[0]: pl.Float64}).cast({EVENT: pl.Datetime("us", "UTC")})
    return frame.fill_nan(None).unique([KEY, EVENT]).sort(KEY, EVENT)


def check(name: str, ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """Raise AssertionError if the answers differ."""
    if name == "feast-dask":  # Dask drops entity rows without known features
        ours = ours.join(theirs, on=[KEY, EVENT], how="semi").sort(KEY, EVENT)
    if not ours.equals(theirs):
        raise AssertionError(f"{name} gives other features than recmeta")


def run(
    num_entities: int = 100_000, rows_per_key: tuple[int, ...] = (10, 100), repeats: int = 4
) -> BenchmarkResult:
    """Measure every store that is installed.

    Args:
        num_entities: entity rows, and rows of the source.
        rows_per_key: rows of the source for each key; a measurement for each.
        repeats: calls of each store, of which the fastest counts.

    Raises:
        UserError: if the stores' answers differ.
    """
    about = machine("feast", "polars", "pandas", "duckdb", "dask")
    rows: list[dict[str, Any]] = []
    for number in rows_per_key:
        asked = {"num_entities": num_entities, "rows_per_key": number, "repeats": repeats}
        rows += measure_alone(__name__, asked, threads=os.cpu_count() or 1)
    return BenchmarkResult(
        name="point-in-time",
        title=f"Point-in-time features of {num_entities:,} entity rows",
        columns=("name", "rows_per_key", "seconds", "times_slower"),
        rows=rows,
        machine=about,
    )


def measure(num_entities: int, rows_per_key: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row per store that is installed; runs in a process of its own, since DuckDB's Python
    functions complain when theirs ends.

    Raises:
        AssertionError: if the stores' answers differ.
    """
    installed = all(importlib.util.find_spec(module) for module in ("duckdb", "ibis"))
    names = [name for name in OFFLINE_STORES if installed or name != "feast-duckdb"]
    load = Workload(num_entities=num_entities, rows_per_key=rows_per_key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _measured(load, names, repeats)


def _measured(load: Workload, names: list[str], repeats: int) -> list[dict[str, Any]]:
    """Return a row per store; ours is the first."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        load.source(rng).to_parquet(Path(folder) / "features.parquet")
        asked = load.entities(rng)
        ours: pl.DataFrame | None = None
        for name in names:
            times = min(2, repeats) if name == "feast-dask" else repeats
            seconds, answer = best_time(open_store(Path(folder), name), asked, times)
            ours = answer if ours is None else ours
            check(name, ours, answer)
            row = {"name": name, **dataclasses.asdict(load), "seconds": seconds}
            row["times_slower"] = seconds / (rows[0]["seconds"] if rows else seconds)
            row["rows_returned"] = answer.height
            row["rows_found"] = answer[FEATURES[0]].count()
            rows.append(row)
    return rows
