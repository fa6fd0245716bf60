"""The feature repository over the tables of a synthetic log."""

import dataclasses
import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from built_once import built_once
from exported import Exported, export
from feature_repository import Repository, copied
from random_models import on_bayes, with_every_column

from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.manifest import latest
from recmeta.steps.data import build_tasks, ingest, materialise_features
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv
from recmeta.workspace import Workspace

EXPORTED = "exported.json"


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all test processes share, which nobody changes."""
    return built_once("feature-repository", build, tmp_path_factory)


@pytest.fixture(scope="session")
def repository(_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Applied and materialised by Feast's own command; its tables are not to be changed."""
    folder = tmp_path_factory.mktemp("features") / "feature_store"
    shutil.copytree(_built / "feature_store", folder)
    # Its registry names the tables by where they were when it was applied.
    return Repository(folder=folder, workspace=Workspace(_built / "workspace"))


@pytest.fixture(scope="session")
def exported(_built: Path) -> Exported:
    """Users of a model with layers, and with all that may order lists."""
    found = json.loads((_built / EXPORTED).read_text())
    found["score_BI"] = np.array(found["score_BI"], np.float32)
    return Exported(**found)


def build(folder: Path) -> None:
    """Make the tables of a log and of capsules, and the feature repository over them."""
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
    tasks = latest(repository.workspace, build_tasks.STEP)
    task_set = TaskSet(repository.workspace / tasks.outputs.tasks)
    model = with_every_column(on_bayes(task_set), task_set, in_order=True, graded=True)
    at = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC)
    made = export(repository.workspace, model, "7", ["u000", "u001", "stranger"], at)
    found = dataclasses.asdict(made) | {"score_BI": made.score_BI.tolist()}
    (folder / EXPORTED).write_text(json.dumps(found))
    for arguments in (["apply"], ["materialize-incremental", "2026-01-01T00:00:00"]):
        done = repository.feast(*arguments)
        assert done.returncode == 0, done.stderr
