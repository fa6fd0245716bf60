"""Point-in-time features of 100,000 entity rows: ours against Feast's Dask and DuckDB stores.

    python benchmarks/point_in_time.py [--entities N] [--rows-per-key N] [--repeats N] [--json]

All stores read the same Parquet file through `FeatureStore.get_historical_features(...).to_df()`.
Their answers are compared before a time is printed: DuckDB's must be ours row by row; Dask's, which
has one row per key and time and none where nothing was known, wherever it has one. Times are the
best of the repeats (of two for Dask), so that the first call's imports do not count.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import os
import platform
import sys
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
    """How much is asked of how much."""

    num_entities: int = 100_000
    """Entity rows, and rows of the source."""
    rows_per_key: int = 10
    """Rows of the source for each key."""

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
    types = {EVENT: pl.Datetime("us", "UTC"), FEATURES[0]: pl.Float64}
    return frame.cast(types).fill_nan(None).unique([KEY, EVENT]).sort(KEY, EVENT)


def check(name: str, ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """Exit with a message where the answers differ."""
    if name == "feast-dask":  # drops entity rows of which nothing was known
        ours = ours.join(theirs, on=[KEY, EVENT], how="semi").sort(KEY, EVENT)
    if not ours.equals(theirs):
        sys.exit(f"{name} gives other features than recmeta")


def machine() -> dict[str, Any]:
    """Return what the times depend on."""
    versions = {name: __import__(name).__version__ for name in ("feast", "polars", "pandas")}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "platform": platform.platform(), **versions}


def main() -> None:
    """Run every store that is installed and print a table, or JSON."""
    parser = argparse.ArgumentParser(description="Point-in-time features against Feast's stores.")
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--rows-per-key", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    installed = all(importlib.util.find_spec(module) for module in ("duckdb", "ibis"))
    names = [name for name in OFFLINE_STORES if installed or name != "feast-duckdb"]
    rows: list[dict[str, Any]] = []
    for rows_per_key in arguments.rows_per_key:
        load = Workload(num_entities=arguments.entities, rows_per_key=rows_per_key)
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            load.source(rng).to_parquet(Path(folder) / "features.parquet")
            asked = load.entities(rng)
            answers: dict[str, pl.DataFrame] = {}
            for name in names:
                repeats = min(2, arguments.repeats) if name == "feast-dask" else arguments.repeats
                seconds, answers[name] = best_time(open_store(Path(folder), name), asked, repeats)
                check(name, answers["recmeta"], answers[name])
                found = answers[name][FEATURES[0]].count()
                rows.append(dataclasses.asdict(load) | {"name": name, "seconds": seconds})
                rows[-1] |= {"ratio": seconds / rows[-1 - names.index(name)]["seconds"]}
                rows[-1] |= {"rows_returned": answers[name].height, "rows_found": found}
    if arguments.json:
        sys.stdout.write(json.dumps({"rows": rows, "machine": machine()}) + "\n")
        return
    sys.stdout.write("rows per key  store         seconds    times as long as recmeta\n")
    for row in rows:
        columns = f"{row['rows_per_key']:12d}  {row['name']:12s}"
        sys.stdout.write(f"{columns}{row['seconds']:9.3f}{row['ratio']:10.1f}\n")


if __name__ == "__main__":
    main()
