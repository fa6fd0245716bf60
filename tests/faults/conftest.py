"""Faults injected into real commands, counted."""

from collections.abc import Iterator

import pytest
from counting import Faults
from finished_runs import FinishedRun


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
