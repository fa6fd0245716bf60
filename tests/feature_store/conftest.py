"""The feature repository over the tables of a synthetic log."""

import datetime

import pytest
from exported import Exported, export
from feature_repository import Repository, copied
from random_models import on_bayes, with_every_column

from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.manifest import latest
from recmeta.steps.data import build_tasks, ingest, materialise_features
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv


@pytest.fixture(scope="session")
def with_tables(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The tables are there, and Feast does not know them yet."""
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
    return repository


@pytest.fixture(scope="session")
def exported(with_tables: Repository) -> Exported:
    """Users of a model with layers, and with all that may order lists."""
    tasks = latest(with_tables.workspace, build_tasks.STEP)
    task_set = TaskSet(with_tables.workspace / tasks.outputs.tasks)
    model = with_every_column(on_bayes(task_set), task_set, in_order=True, graded=True)
    at = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC)
    return export(with_tables.workspace, model, "7", ["u000", "u001", "stranger"], at)


@pytest.fixture(scope="session")
def repository(with_tables: Repository, exported: Exported) -> Repository:
    """Applied and materialised by Feast's own command."""
    del exported  # its tables are there before
    for arguments in (["apply"], ["materialize-incremental", "2026-01-01T00:00:00"]):
        done = with_tables.feast(*arguments)
        assert done.returncode == 0, done.stderr
    return with_tables
