"""The feature repository over the tables of a synthetic log."""

import pytest
from feature_repository import Repository, copied

from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.steps.data import build_tasks, ingest, materialise_features
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Applied and materialised by Feast's own command."""
    folder = tmp_path_factory.mktemp("features")
    write_csv(generate(SyntheticConfig(num_users=60, num_items=40), 0), folder / "log")
    repository = copied(folder)
    mapping = LogMapping(
        path=str(folder / "log" / "interactions.csv"),
        time_col="timestamp",
        value_col="value",
        users=AttributeSource(
            path=str(folder / "log" / "users.csv"),
            id_col="user_id",
            columns={
                "group": Attribute(kind="categorical", column="group"),
                "age": Attribute(kind="numeric", column="age"),
            },
        ),
        items=AttributeSource(
            path=str(folder / "log" / "items.csv"),
            id_col="item_id",
            columns={
                "genre": Attribute(kind="categorical", column="genre"),
                "tags": Attribute(kind="multi", column="tags"),
                "length": Attribute(kind="numeric", column="length"),
            },
        ),
    )
    ingest.run(mapping, repository.workspace)
    materialise_features.run(repository.workspace)
    build_tasks.run(build_tasks.BuildTasksConfig(), repository.workspace)
    for arguments in (["apply"], ["materialize-incremental", "2026-01-01T00:00:00"]):
        done = repository.feast(*arguments)
        assert done.returncode == 0, done.stderr
    return repository
