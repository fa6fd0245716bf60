import getpass
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import recmeta
from recmeta.registry.runs.provenance import actor


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_DAG_RUN_ID", "MLFLOW_TRACKING_USERNAME"):
        monkeypatch.delenv(name, raising=False)


def test_the_user_is_the_servers_or_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert actor() == getpass.getuser()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    assert actor() == "kim"


def test_airflow_is_named_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "meta_train")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__1")
    assert actor() == "Airflow DAG meta_train, run manual__1"


def test_changes_of_recmetas_own_files_are_seen(tmp_path: Path) -> None:
    """In a checkout of its own: a package, committed, then changed."""
    package = tmp_path / "recmeta"
    (package / "registry" / "runs").mkdir(parents=True)
    source = Path(recmeta.__file__).parent
    runs = ("registry/runs/__init__.py", "registry/runs/provenance.py")
    for name in ("__init__.py", "registry/__init__.py", *runs):
        shutil.copy(source / name, package / name)

    def changed() -> str:
        code = "from recmeta.registry.runs.provenance import uncommitted_changes as c; print(c())"
        command = [sys.executable, "-B", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=kim", "-c", "user.email=kim@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert changed() == "None"
    git("init")
    assert changed() == "True"
    git("add", ".")
    git("commit", "-m", "all")
    assert changed() == "False"
    (tmp_path / "notes.txt").write_text("not part of the package")
    assert changed() == "False"
    (package / "new.py").write_text("")
    assert changed() == "True"
