"""One small workspace for all of these tests."""

from pathlib import Path

import pytest
import small_workspace
from built_once import copy_of


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace in it, named `workspace`."""
    return copy_of("analysed", small_workspace.build, tmp_path_factory)


@pytest.fixture(autouse=True)
def in_its_folder(analysed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `workspace` be that workspace."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(analysed)
