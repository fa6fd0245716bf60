"""The feature repository as it stands: applied, materialised, read offline and online, and seen."""

import contextlib
import datetime
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl
import pytest
from feature_repository import Repository, copied

from recmeta import schema
from recmeta.features.feast_skew import compare_online_offline

VIEWS = {"user_profile", "item_profile", "user_activity", "item_activity", "item_statistics"}


def read(repository: Repository, table: schema.Table) -> pl.DataFrame:
    return pl.read_delta(repository.workspace.table_uri(table))


def pairs(repository: Repository) -> pl.DataFrame:
    """Users beside items: the keys of every view."""
    users = read(repository, schema.USERS)[schema.USER_ID].sort()
    items = read(repository, schema.ITEMS)[schema.ITEM_ID].sort()
    return pl.DataFrame([users.head(40), items.head(40)])


def test_the_definitions_follow_the_tables(repository: Repository) -> None:
    store = repository.store()
    fields = {
        view.name: {field.name: str(field.dtype) for field in view.features}
        for view in store.list_feature_views()
    }
    assert set(fields) == VIEWS
    assert fields["user_profile"] == {"group": "String", "age": "Float64"}
    assert fields["item_profile"] == {
        "genre": "String",
        "tags": "Array(String)",
        "length": "Float64",
    }
    assert fields["item_activity"] == {
        "num_interactions": "Int64",
        "mean_value": "Float64",
        "num_interactions_7d": "Int64",
        "mean_value_7d": "Float64",
        "num_interactions_28d": "Int64",
        "mean_value_28d": "Float64",
    }
    service = store.get_feature_service("melu_v1")
    assert [p.name for p in service.feature_view_projections] == [
        "user_profile",
        "item_profile",
        "item_statistics",
    ]


def test_no_feature_sees_the_interaction_it_is_read_for(repository: Repository) -> None:
    interactions = read(repository, schema.INTERACTIONS).sample(200, seed=0)
    asked = interactions.select(
        schema.USER_ID,
        schema.ITEM_ID,
        schema.VALUE,
        pl.col(schema.TIMESTAMP).alias("event_timestamp"),
    )
    job = repository.store().get_historical_features(
        asked, ["user_activity:num_interactions", "item_profile:genre"]
    )
    result = pl.DataFrame(job.to_arrow())
    assert result.select(asked.columns).equals(asked)
    assert result["genre"].null_count() == 0
    midnight = pl.col("event_timestamp").dt.truncate("1d")
    before = (
        asked.join(read(repository, schema.INTERACTIONS), on=schema.USER_ID)
        .group_by(asked.columns)
        .agg((pl.col(schema.TIMESTAMP) < midnight.first()).sum().alias("count"))
    )
    counted = asked.join(before, on=asked.columns, how="left", maintain_order="left")["count"]
    assert result["num_interactions"].fill_null(0).to_list() == counted.to_list()


def test_online_and_offline_features_are_the_same(repository: Repository) -> None:
    store = repository.store()
    entities = pairs(repository)
    features = [f"{v.name}:{f.name}" for v in store.list_feature_views() for f in v.features]
    report = compare_online_offline(store, features, entities)
    assert (report.num_rows, report.num_values) == (40, 40 * len(features))
    assert report.differences.is_empty()
    assert report.share == 0
    service = store.get_feature_service("melu_v1")
    assert compare_online_offline(store, service, entities).differences.is_empty()


def test_skew_is_told_value_by_value(repository: Repository) -> None:
    store = repository.store()
    first = read(repository, schema.INTERACTIONS)[schema.TIMESTAMP].min()
    assert isinstance(first, datetime.datetime)
    features = ["user_activity:num_interactions", "item_profile:tags"]
    report = compare_online_offline(store, features, pairs(repository), as_of=first)
    assert report.num_values == 80
    assert report.by_feature().rows() == [("user_activity__num_interactions", 40)]
    assert report.share == 0.5
    row = report.differences.row(0, named=True)
    assert row["user_id"] == pairs(repository)["user_id"][0]
    assert int(row["online"]) > 0
    assert row["offline"] is None


def test_a_second_materialisation_changes_nothing(repository: Repository) -> None:
    store = repository.store()
    store.materialize_incremental(datetime.datetime(2026, 1, 2))
    service = store.get_feature_service("melu_v1")
    assert compare_online_offline(store, service, pairs(repository)).differences.is_empty()


def test_before_anything_is_ingested(tmp_path: Path) -> None:
    done = copied(tmp_path).feast("apply")
    assert done.returncode != 0
    assert "ingest a log first" in done.stderr


def test_the_page(repository: Repository) -> None:
    pytest.importorskip("grpc_health", reason="Feast's page needs feast[grpcio]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "feast.cli.cli",
        "ui",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    page = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        command, cwd=repository.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(page) as answer:
                assert answer.status == 200
                break
            time.sleep(0.3)
        with urllib.request.urlopen(f"{page}/api/v1/feature_views?project=recmeta") as answer:
            views = json.load(answer)["featureViews"]
        assert {view["spec"]["name"] for view in views} == VIEWS
    finally:
        server.terminate()
        server.wait()
