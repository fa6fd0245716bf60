"""Folders that take seconds to build: built once in a run of the tests, copied by each process.

Each worker of pytest-xdist has fixtures of its own: what has the scope `session` is built once by
every worker. Here the first worker that asks builds, and the others wait for it.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from recmeta.registry.database import create_database
from recmeta.workspace import Workspace


def built_once(name: str, build: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all workers share, and that nobody changes.

    Args:
        name: of what is built, unique among all tests.
        build: fills an empty folder. A folder that it failed to fill is built again.
    """
    base = factory.getbasetemp()
    # A worker's folder is in the folder of the run.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    shared = run / "built-once"
    shared.mkdir(exist_ok=True)
    folder, done = shared / name, shared / f"{name}.done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("MLFLOW_TRACKING_URI", raising=False)
                build(folder)
            done.touch()
    return folder


def copy_of(name: str, build: Callable[[Path], object], factory: pytest.TempPathFactory) -> Path:
    """Return a copy, which the caller may change, of what `built_once` returns."""
    place = factory.mktemp(name)
    shutil.copytree(built_once(name, build, factory), place, dirs_exist_ok=True)
    return place


def mlflow_database(factory: pytest.TempPathFactory) -> Path:
    """Return MLflow's tables without a row, which nobody changes.

    MLflow makes them by dozens of migrations, in more than a second of processor time.
    """

    def build(folder: Path) -> None:
        create_database(f"sqlite:///{folder}/mlflow.db", Workspace(folder))

    return built_once("mlflow", build, factory) / "mlflow.db"
