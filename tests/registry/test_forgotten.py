"""Users who are forgotten leave MLflow's artifacts: this model's, not those of another one."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.artifacts import download_artifacts

from recmeta.registry.models.forgotten import erase_from_artifacts
from recmeta.registry.runs.training_run import EVALUATION
from recmeta.registry.tracking import NAME, connect, experiment_id, tracking_uri
from recmeta.workspace import Workspace

USERS = pa.table({"user_id": ["ann", "bob"], "mae": [0.5, 0.7]})


def evaluated(workspace: Workspace, folder: Path) -> str:
    """Return a run of the workspace's model with an evaluation of both users."""
    client = connect(workspace)
    run_id = str(client.create_run(experiment_id(client)).info.run_id)
    pq.write_table(USERS, folder / "per_user.parquet")
    client.log_artifact(run_id, str(folder / "per_user.parquet"), EVALUATION)
    return run_id


def users_of(workspace: Workspace, run_id: str) -> list[str]:
    path = download_artifacts(
        run_id=run_id,
        artifact_path=f"{EVALUATION}/per_user.parquet",
        tracking_uri=tracking_uri(workspace),
    )
    found: list[str] = pq.read_table(path)["user_id"].to_pylist()
    return found


def test_another_models_users_of_that_id_stay(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert erase_from_artifacts(workspace, ["ann"]) == 0  # no run yet
    own = evaluated(workspace, tmp_path)
    monkeypatch.setenv(NAME, "another-shop")  # on the same server
    other = evaluated(workspace, tmp_path)
    monkeypatch.delenv(NAME)
    assert erase_from_artifacts(workspace, ["ann", "nobody"]) == 1
    assert users_of(workspace, own) == ["bob"]
    assert users_of(workspace, other) == ["ann", "bob"]
    assert erase_from_artifacts(workspace, ["ann"]) == 0
