"""What is online after days that came late, and what the models are told of a user."""

import datetime
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from feature_repository import Repository, copied

from recmeta import schema
from recmeta.errors import UserError
from recmeta.features.attributes import profiles_as_of
from recmeta.features.feast_online import content_id, online_profiles
from recmeta.features.feast_repository import apply_definitions, materialised_until, open_store
from recmeta.features.feast_skew import compare_views
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.steps.data import ingest, materialise_features

USERS = [
    {"user_id": "ann", "age": 30, "city": "Lviv", "likes": "a|b"},
    {"user_id": "bob", "age": None, "city": None, "likes": None},
    {"user_id": "cat", "age": 41.5, "city": "Kyiv", "likes": "b"},
]
LATEST = datetime.datetime(2024, 3, 8, tzinfo=datetime.UTC)


def bring(
    repository: Repository,
    rows: list[tuple[str, str, str, float]],
    users: list[dict[str, object]] | None = None,
) -> None:
    """Ingest interactions: user, item, time, value."""
    folder = repository.folder.parent
    columns = ["user_id", "item_id", "timestamp", "value"]
    pl.DataFrame(rows, columns, orient="row").write_csv(folder / "log.csv")
    (folder / "users.jsonl").write_text("".join(json.dumps(user) + "\n" for user in users or USERS))
    source = AttributeSource(
        path=str(folder / "users.jsonl"),
        id_col="user_id",
        columns={
            "age": Attribute(kind="numeric"),
            "city": Attribute(kind="categorical"),
            "likes": Attribute(kind="multi"),
        },
    )
    mapping = LogMapping(
        path=str(folder / "log.csv"),
        time_col="timestamp",
        time_unit="iso",
        value_col="value",
        users=source,
    )
    ingest.run(mapping, repository.workspace)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Two days are online."""
    repository = copied(tmp_path_factory.mktemp("late"))
    bring(
        repository,
        [("ann", "x", "2024-03-05T10:00:00Z", 4), ("bob", "x", "2024-03-07T10:00:00Z", 2)],
    )
    done = materialise_features.run(
        repository.workspace, feature_store=str(repository.folder), until=LATEST
    )
    assert done.outputs.online_until == LATEST.isoformat()
    return repository


def num_different(repository: Repository) -> dict[str, int]:
    reports = compare_views(repository.store())
    return {name: report.differences.height for name, report in reports.items()}


def test_the_models_read_the_profiles_that_training_reads(repository: Repository) -> None:
    """Multi-valued and missing attributes included."""
    asked = pa.array(["ann", "bob", "cat", "nobody"])
    online = online_profiles(open_store(str(repository.folder)), asked)
    tasks = pl.DataFrame(
        {schema.USER_ID: ["ann", "bob", "cat"], schema.CUT_TIME: [2**62] * 3},
    )
    users = pl.scan_delta(repository.workspace.table_uri(schema.USERS))
    training = schema.with_plain_types(profiles_as_of(tasks, users).to_arrow())
    assert online.select(training.column_names).to_pylist() == training.to_pylist()
    assert schema.with_plain_types(online).select(training.column_names).schema == training.schema
    assert online.to_pylist()[0]["likes"] == ["a", "b"]
    assert content_id(online) != content_id(online.slice(1))


def test_nobody_is_asked_for(repository: Repository) -> None:
    online = online_profiles(open_store(str(repository.folder)), pa.array([], pa.string()))
    assert online.num_rows == 0


def test_a_late_day_takes_nothing_back(repository: Repository) -> None:
    """Rows before what is online, and on a day that is; the late run's own end is earlier."""
    assert set(num_different(repository).values()) == {0}
    bring(
        repository,
        [("ann", "y", "2024-03-05T11:00:00Z", 1), ("cat", "x", "2024-03-01T10:00:00Z", 5)],
        [*USERS[:2], {**USERS[2], "city": "Odesa"}],
    )
    materialise_features.run(repository.workspace)
    late = num_different(repository)
    assert min(late["user_activity"], late["item_activity"], late["user_profile"]) > 0
    done = materialise_features.run(
        repository.workspace,
        feature_store=str(repository.folder),
        until=LATEST - datetime.timedelta(days=5),
    )
    assert done.reused
    assert done.outputs.online_until == LATEST.isoformat()
    assert set(num_different(repository).values()) == {0}
    store = open_store(str(repository.folder))
    assert materialised_until(store) == LATEST
    served = store.get_online_features(
        ["user_activity:num_interactions", "user_activity:mean_value", "user_profile:city"],
        {"user_id": ["ann", "bob", "cat"]},
    ).to_dict()
    assert served["num_interactions"] == [2, 1, 1]
    assert served["mean_value"] == [2.5, 2.0, 5.0]
    assert served["city"] == ["Lviv", None, "Odesa"]


def test_mistakes_are_named(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no feature store at"):
        open_store(str(tmp_path))
    fresh = copied(tmp_path)
    with pytest.raises(UserError, match="ingest a log first"):
        apply_definitions(str(fresh.folder), fresh.workspace.location)
    with pytest.raises(UserError, match="nothing was applied"):
        compare_views(fresh.store())
    apply_definitions(str(fresh.folder / "feature_store.yaml"), repository.workspace.location)
    with pytest.raises(UserError, match="has not been materialised"):
        compare_views(fresh.store())
    with pytest.raises(UserError, match="nothing is online"):
        online_profiles(fresh.store(), pa.array(["ann"]))
