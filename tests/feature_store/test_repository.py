"""The feature repository as it stands: applied, materialised, read offline and online, and seen."""

import contextlib
import datetime
import json
import socket
import subprocess
import sys
import time
import urllib.request

import polars as pl
import pytest
from exported import Exported, assert_scores_alike, of_capsules
from feature_repository import Repository

from recmeta import schema
from recmeta.errors import UserError
from recmeta.features.feast_skew import compare_online_offline, compare_views

EXPORTED = {"user_capsule", "item_vector"}
ONLINE = {"user_profile", "item_profile", "user_activity", "item_activity"} | EXPORTED
VIEWS = ONLINE | {"item_statistics"}


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
    assert fields["user_capsule"]["key_weights"] == "Array(Float32)"
    assert set(fields["item_vector"]) == {
        "model_version",
        "fingerprint",
        "vector",
        "keys",
        "features",
    }
    service = store.get_feature_service(schema.FEATURE_SERVICE)
    assert [p.name for p in service.feature_view_projections] == ["user_profile", "item_profile"]


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
    reports = compare_views(store)
    assert set(reports) == ONLINE
    for name, report in reports.items():
        table = schema.USERS if name.startswith("user") else schema.ITEMS
        if name == "user_capsule":
            table = schema.USER_CAPSULES
        assert report.num_rows == read(repository, table).height
        assert len(report.features) == len(store.get_feature_view(name).features)
        assert report.differences.is_empty()
        assert report.share == 0
    service = store.get_feature_service("melu_v1")
    report = compare_online_offline(store, service, entities)
    assert report.num_rows == 40
    assert report.differences.is_empty()


def test_capsules_have_the_servers_scores(repository: Repository, exported: Exported) -> None:
    """Of a model with layers and with all that orders lists; of somebody without rows, too."""
    assert exported.about["layers"]
    users = ["u000", "u001", "stranger"]
    assert_scores_alike(repository, exported, users)
    found = of_capsules(repository, [*users, "nobody"])
    assert found["num_interactions"] == [0, 4, 8, None]
    with pytest.raises(UserError, match="some of the capsules are empty"):
        assert_scores_alike(repository, exported, ["u000", "nobody"])


def test_a_sample_is_the_same_every_time(repository: Repository) -> None:
    store = repository.store()
    drawn = [compare_views(store, 7)["user_activity"] for _ in range(2)]
    assert [report.num_rows for report in drawn] == [7, 7]
    assert drawn[0].differences.equals(drawn[1].differences)


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


def test_applying_again_finds_nothing_changed(repository: Repository) -> None:
    repository.feast("apply")  # Feast stamps new sources only after it has compared them
    done = repository.feast("apply")
    assert "No changes to registry" in done.stdout
    assert "No changes to infrastructure" in done.stdout
    assert done.stderr == ""


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
