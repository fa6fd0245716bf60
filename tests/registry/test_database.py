"""MLflow's database is there whole, or not at all."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from mlflow import MlflowClient

from recmeta.registry.database import create_database
from recmeta.workspace import Workspace

CREATE = """
import sys
from recmeta.registry.database import create_database
from recmeta.workspace import Workspace
create_database(sys.argv[1], Workspace(sys.argv[2]))
"""


def creation(path: Path) -> subprocess.Popen[bytes]:
    """Start making a database in another process."""
    command = [sys.executable, "-c", CREATE, f"sqlite:///{path}", str(path.parent)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def test_is_one_that_mlflow_takes(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/a folder/mlflow.db"
    create_database(uri, Workspace(tmp_path))
    client = MlflowClient(uri)
    assert client.get_experiment("0").artifact_location == "mlflow-artifacts:/0"
    assert client.search_registered_models() == []
    assert [path.name for path in (tmp_path / "a folder").iterdir()] == ["mlflow.db"]
    assert (tmp_path / "a folder").stat().st_mode & 0o077 == 0


def test_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"mine")
    create_database(f"sqlite:///{tmp_path}/mlflow.db", Workspace(tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == b"mine"
    create_database("https://mlflow.example:5000", Workspace(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_creation_killed_among_the_migrations_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    process = creation(path)
    started = time.monotonic()
    while not num_tables(tmp_path) and time.monotonic() - started < 120:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not path.exists()
    create_database(f"sqlite:///{path}", Workspace(tmp_path))
    assert MlflowClient(f"sqlite:///{path}").get_experiment("0").name == "Default"


def num_tables(folder: Path) -> int:
    """Return how many tables an unfinished database in the folder has by now."""
    for path in folder.glob(".tmp/*/*/mlflow.db"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    return 0


def test_two_at_once_make_one(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    both = [creation(path), creation(path)]
    assert [process.wait() for process in both] == [0, 0]
    assert MlflowClient(f"sqlite:///{path}").get_experiment("0").name == "Default"
