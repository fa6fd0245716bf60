"""A user who is forgotten is not online any more, and the others still are."""

import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
from feature_repository import copied

from recmeta.features.feast_online import online_profiles
from recmeta.features.feast_repository import open_store
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.steps.data import ingest, materialise_features
from recmeta.steps.upkeep import forget

GONE = "zz-forget-me-zz"
UNTIL = datetime.datetime(2024, 3, 8, tzinfo=datetime.UTC)


def test_a_forgotten_user_is_not_online(tmp_path: Path) -> None:
    repository = copied(tmp_path)
    users = ["ann", GONE, "cat"]
    pl.DataFrame({"user_id": users, "age": [30.0, 40.0, 50.0]}).write_csv(tmp_path / "users.csv")
    log = {"user_id": users, "item_id": ["i", "i", "j"], "value": [3.0, 4.0, 5.0]}
    times = ["2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z", "2024-03-03T00:00:00Z"]
    pl.DataFrame({**log, "timestamp": times}).write_csv(tmp_path / "log.csv")
    source = AttributeSource(
        path=str(tmp_path / "users.csv"),
        id_col="user_id",
        columns={"age": Attribute(kind="numeric")},
    )
    mapping = LogMapping(
        path=str(tmp_path / "log.csv"),
        time_col="timestamp",
        time_unit="iso",
        value_col="value",
        users=source,
    )
    ingest.run(mapping, repository.workspace)
    folder = str(repository.folder)
    materialise_features.run(repository.workspace, feature_store=folder, until=UNTIL)
    assert known(folder, users) == {"ann", GONE, "cat"}

    found = forget.run(repository.workspace, [GONE], feature_store=folder)
    assert found.online_views is not None
    assert found.online_views > 0
    assert known(folder, users) == {"ann", "cat"}
    kept = [p for p in repository.folder.rglob("*") if p.is_file()]
    assert [p.name for p in kept if GONE.encode() in p.read_bytes()] == []


def known(folder: str, users: list[str]) -> set[str]:
    """Return the users of whom something is online."""
    table = online_profiles(open_store(folder), pa.array(users))
    names: list[str] = table["user_id"].to_pylist()
    return set(names)
