import shutil
from pathlib import Path

import pytest
from built_once import mlflow_database
from registry_pipeline import Pipeline, write_task_set

from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder, Workspace


@pytest.fixture(autouse=True)
def _default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a row: making them takes seconds, copying them does not."""
    return mlflow_database(tmp_path_factory)


@pytest.fixture
def workspace(tmp_path: Path, empty_database: Path) -> Workspace:
    workspace = Workspace(tmp_path / "a workspace")
    Path(workspace.path).mkdir()
    shutil.copy(empty_database, workspace.path)
    return workspace


@pytest.fixture(scope="session")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    return write_task_set(Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture
def pipeline(workspace: Workspace, task_set: TaskSet) -> Pipeline:
    return Pipeline(workspace, task_set)
