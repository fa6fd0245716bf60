"""Faults injected into real commands, counted."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import Faults
from finished_runs import FinishedRun
from running import FAST, run

from recmeta.testing.synthetic import SyntheticConfig, generate, write_csv


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Iterator[Faults]:
    """Count the faults that a test injects."""
    test = request.node.nodeid.partition("[")[0]
    counted = Faults(f"RECMETA_FAULTS=1 python -m pytest {test}")
    yield counted
    counted.finish()


@pytest.fixture(scope="session")
def _run_once(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return FinishedRun.of(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished_run(_run_once: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[FinishedRun]:
    """A finished run, whole before each test and after it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield _run_once
    _run_once.restore()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log and a workspace `made`, with two versions of the model."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        config = SyntheticConfig(num_users=40, num_items=20, rows_per_user=(8, 12))
        write_csv(generate(config, seed=0), folder)
        (folder / "fast.toml").write_text(FAST)
        (folder / "new.csv").write_text("user_id,item_id,value\nnew,i01,5\nnew,i02,2\n")
        for seed in (0, 1):
            run("made", seed)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the log and a workspace `ws` of the test's own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "here"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("made"))
    shutil.copytree(made / "made", folder / "ws")
    monkeypatch.chdir(folder)
    return folder
