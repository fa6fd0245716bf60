"""`recmeta rebuild` on a workspace that `recmeta run` made."""

import json
import shutil
from pathlib import Path

import pytest
from cli_calls import LOG_OPTIONS, Call, Called

from recmeta.registry.models import versions
from recmeta.registry.tracking import connect
from recmeta.workspace import Workspace


@pytest.fixture
def trained(finished: tuple[Path, Called], tmp_path: Path) -> tuple[Path, str]:
    """A copy of the finished workspace without tasks, models and manifests, and the run's id."""
    workspace = Path(shutil.copytree(finished[0], tmp_path / "ws"))
    for name in ("tasks", "models", "reports", "manifests"):
        shutil.rmtree(workspace / name)
    (version,) = versions.versions(Workspace(workspace))
    assert version.run_id is not None
    return workspace, version.run_id


def test_rebuilt_after_more_was_ingested(
    trained: tuple[Path, str], folder: Path, tmp_path: Path, recmeta: Call
) -> None:
    workspace, run_id = trained
    more = tmp_path / "more.csv"
    more.write_text("uid,sku,ts,stars\nu0,i1,1700100000,5\nnew,i2,1700100001,1\n")
    assert recmeta("ingest", more, *LOG_OPTIONS, "-w", workspace).code == 0
    called = recmeta("rebuild", run_id, "-w", workspace, "--json")
    assert called.code == 0, called.stderr
    found = called.json
    assert found["reproduced"] is True
    assert found["tolerance"] == 0
    assert found["metrics"]["mae.maml"]["equal"] is True
    assert found["metrics"]["mae.maml"]["recorded"] == found["metrics"]["mae.maml"]["rebuilt"]
    left = {p.name for p in workspace.iterdir()}
    assert not left & {"tasks", "models", "reports"}
    assert [p.name for p in (workspace / "manifests").iterdir()] == ["ingest"]

    shown = recmeta("rebuild", run_id, "-w", workspace, "--into", tmp_path / "kept")
    assert shown.code == 0
    assert "metrics are equal, to the last bit" in shown.stdout
    assert "| mae.maml |" in shown.stdout
    assert (tmp_path / "kept" / "model" / "model.safetensors").exists()


def test_another_result_is_exit_code_4(
    trained: tuple[Path, str], tmp_path: Path, recmeta: Call
) -> None:
    workspace, run_id = trained
    client = connect(Workspace(workspace))
    name = "evaluation/evaluation.json"
    path = Path(client.download_artifacts(run_id, name, str(tmp_path)))
    before = json.loads(path.read_text())
    changed = json.loads(path.read_text())
    changed["metrics"]["maml"]["mae"] += 0.5
    environment = Path(client.download_artifacts(run_id, "environment.json", str(tmp_path)))
    libraries = json.loads(environment.read_text())
    try:
        client.log_dict(run_id, changed, name)
        client.log_dict(run_id, {**libraries, "torch": "2.0.0"}, "environment.json")
        called = recmeta("rebuild", run_id, "-w", workspace)
    finally:  # the artifacts are those of the workspace that the tests share
        client.log_dict(run_id, before, name)
        client.log_dict(run_id, libraries, "environment.json")
    assert called.code == 4
    assert "**no**" in called.stdout
    said = " ".join(called.stderr.split())
    assert "torch 2.0.0 then" in said
    assert "is not the recorded one (exit code 4)" in said


def test_a_run_that_is_not_there_is_the_users_mistake(
    trained: tuple[Path, str], recmeta: Call
) -> None:
    called = recmeta("rebuild", "0123abcd", "-w", trained[0], "--json")
    assert called.code == 2
    assert "has no run 0123abcd" in called.json["error"]
