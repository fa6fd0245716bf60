"""A user who is forgotten is not online any more, and the others still are: profiles, and capsules,
which another version of the model replaces."""

import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from exported import assert_scores_alike, export, of_capsules
from feature_repository import copied
from random_models import bayes, random_model

from recmeta.errors import UserError
from recmeta.features.feast_online import online_profiles
from recmeta.features.feast_repository import materialise, open_store
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.steps.data import ingest, materialise_features
from recmeta.steps.upkeep import forget
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

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
    tasks = write_task_set(
        generate(SyntheticConfig(num_users=60, num_items=40, rows_per_user=(6, 12)), seed=2),
        Folder.at(tmp_path / "tasks"),
    )
    model = random_model(tasks, "bayesian-linear", bayes(use_statistics=True))
    of_7 = export(repository.workspace, model, "7", users, UNTIL)
    folder = str(repository.folder)
    materialise_features.run(repository.workspace, feature_store=folder, until=UNTIL)
    assert known(folder, users) == {"ann", GONE, "cat"}
    assert_scores_alike(repository, of_7, users)

    found = forget.run(repository.workspace, [GONE], feature_store=folder)
    assert found.online_views is not None
    assert found.online_views > 0
    assert known(folder, users) == {"ann", "cat"}
    kept = [p for p in repository.folder.rglob("*") if p.is_file()]
    assert [p.name for p in kept if GONE.encode() in p.read_bytes()] == []
    assert of_capsules(repository, users)["model_version"] == ["7", None, "7"]

    model.params = {name: p + 0.1 for name, p in model.params.items()}
    now = datetime.datetime.now(datetime.UTC)
    of_8 = export(repository.workspace, model, "8", ["ann"], now)
    materialise(open_store(folder), now)
    assert_scores_alike(repository, of_8, ["ann"])
    with pytest.raises(UserError, match=r"capsules are of version 7 .*--model-version 8"):
        assert_scores_alike(repository, of_8, ["ann", "cat"])


def known(folder: str, users: list[str]) -> set[str]:
    """Return the users of whom something is online."""
    table = online_profiles(open_store(folder), pa.array(users))
    names: list[str] = table["user_id"].to_pylist()
    return set(names)
