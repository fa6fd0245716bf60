import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import validate_param_and_metric_name

from recmeta.errors import UserError
from recmeta.metalearn.trainer import Epoch
from recmeta.registry.tracking import (
    EXPERIMENT,
    QUIET,
    TrainingRun,
    connect,
    data_versions,
    experiment_id,
    log_evaluation,
    mlflow_name,
    store_name,
    tracking_uri,
)
from recmeta.workspace import Workspace

CONFIG: dict[str, Any] = {
    "network": {"hidden_dims": [64, 64]},
    "seed": 3,
    "long": "x" * 5000,
    "many": {f"p{i}": i for i in range(150)},
}


def start(workspace: Workspace, key: str = "k1", **changes: Any) -> TrainingRun:
    arguments: dict[str, Any] = {
        "config": CONFIG,
        "inputs": {"interactions": 3, "users": 0, "tasks": "0123"},
        "libraries": {"torch": "2.13.0"},
        "git_commit": "c0ffee",
    }
    return TrainingRun.start_or_resume(workspace, key, **(arguments | changes))


def test_default_store_is_in_the_workspace(workspace: Workspace) -> None:
    assert tracking_uri(workspace) == f"sqlite:///{workspace.path}/mlflow.db"
    client = connect(workspace)
    experiment = client.get_experiment(experiment_id(client, workspace))
    assert experiment.name == EXPERIMENT
    assert experiment.artifact_location == (Path(workspace.path) / "mlartifacts").as_uri()
    assert workspace.exists("mlflow.db")


def test_environment_names_the_store(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_name(workspace) == "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example:5000/base")
    assert tracking_uri(workspace) == "https://me:secret@mlflow.example:5000/base"
    assert store_name(workspace) == "https://mlflow.example:5000/base"


def test_object_store_needs_a_server() -> None:
    workspace = Workspace("s3://bucket/ws?region=eu-central-1")
    with pytest.raises(UserError, match=r"s3://bucket/ws .* set MLFLOW_TRACKING_URI"):
        tracking_uri(workspace)


def test_run_holds_all_that_made_the_model(workspace: Workspace) -> None:
    run = start(workspace)
    found = connect(workspace).get_run(run.run_id)
    assert found.info.status == "RUNNING"
    assert found.data.params["network.hidden_dims"] == "[64, 64]"
    assert found.data.params["many.p149"] == "149"
    assert len(found.data.params["long"]) == 500
    tags = found.data.tags
    assert tags["recmeta.seed"] == "3"
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert len(tags["recmeta.config_hash"]) == 16
    datasets = {d.dataset.name: d.dataset for d in found.inputs.dataset_inputs}
    assert set(datasets) == {"interactions", "users"}
    assert datasets["interactions"].source_type == "delta_table"
    assert json.loads(datasets["interactions"].source) == {
        "path": f"{workspace.path}/tables/interactions",
        "delta_table_version": 3,
    }
    artifacts = Path(workspace.path) / "mlartifacts" / run.run_id / "artifacts"
    assert json.loads((artifacts / "config.json").read_text()) == CONFIG
    assert json.loads((artifacts / "environment.json").read_text()) == {"torch": "2.13.0"}
    assert data_versions(workspace, run.run_id) == {
        "interactions": "3",
        "users": "0",
        "tasks": "0123",
    }


def test_resumed_run_is_the_same_run_with_each_epoch_once(workspace: Workspace) -> None:
    first = start(workspace)
    first.log_epoch(Epoch(1, 0.9, 0.8))
    first.log_epoch(Epoch(2, 0.7, 0.75))  # killed here

    second = start(workspace)
    assert second.run_id == first.run_id
    for number in (1, 2, 3):
        second.log_epoch(Epoch(number, 0.9 - 0.2 * (number - 1), 0.8 - 0.05 * (number - 1)))
    second.finish()

    client = connect(workspace)
    history = client.get_metric_history(first.run_id, "dev_loss")
    assert [(m.step, round(m.value, 4)) for m in history] == [(1, 0.8), (2, 0.75), (3, 0.7)]
    assert len(client.get_metric_history(first.run_id, "train_loss")) == 3
    found = client.get_run(first.run_id)
    assert found.info.status == "FINISHED"
    assert len(found.inputs.dataset_inputs) == 2
    assert len(client.search_runs([experiment_id(client, workspace)])) == 1


def test_other_key_is_another_run(workspace: Workspace) -> None:
    assert start(workspace, "k1").run_id != start(workspace, "k2").run_id


def test_failed_run_says_so(workspace: Workspace) -> None:
    run = start(workspace)
    run.finish("FAILED")
    assert connect(workspace).get_run(run.run_id).info.status == "FAILED"


def test_evaluation_is_logged_once(workspace: Workspace) -> None:
    run = start(workspace)
    report = workspace / "reports" / "e1"
    for name in ("evaluation.json", "report.md", "curve.png", "per_user.parquet", "other.tmp"):
        report.write_bytes(name, name.encode())
    metrics = {
        "meta-learner": {"mae": 0.7, "ndcg@5": 0.81, "rmse": None},
        "item-mean": {"mae": 0.8, "ndcg@5": float("nan")},
    }
    for _ in range(2):
        log_evaluation(workspace, run.run_id, metrics, report)

    client = connect(workspace)
    assert client.get_run(run.run_id).data.metrics == {
        "mae.meta-learner": 0.7,
        "ndcg_at_5.meta-learner": 0.81,
        "mae.item-mean": 0.8,
    }
    assert len(client.get_metric_history(run.run_id, "mae.item-mean")) == 1
    assert [a.path for a in client.list_artifacts(run.run_id, "evaluation")] == [
        "evaluation/curve.png",
        "evaluation/evaluation.json",
        "evaluation/per_user.parquet",
        "evaluation/report.md",
    ]


def test_unknown_run_is_the_users_mistake(workspace: Workspace) -> None:
    experiment_id(connect(workspace), workspace)
    with pytest.raises(UserError, match=r"has no run 0123abcd,.* MLFLOW_TRACKING_URI"):
        data_versions(workspace, "0123abcd")


def test_deleted_experiment_is_the_users_mistake(workspace: Workspace) -> None:
    client = connect(workspace)
    client.delete_experiment(experiment_id(client, workspace))
    with pytest.raises(UserError, match="mlflow experiments restore"):
        start(workspace)


@given(st.text(min_size=1))
def test_any_name_becomes_one_that_mlflow_takes(name: str) -> None:
    assert validate_param_and_metric_name(mlflow_name(name))


def test_first_use_prints_nothing_and_leaves_mlflows_globals_alone(tmp_path: Path) -> None:
    code = """
import os, sys
from recmeta.registry import tracking, versions
from recmeta.steps import register
from recmeta.workspace import Workspace
assert "mlflow" not in sys.modules, "importing recmeta.registry imports MLflow"
assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ, "importing changes the environment"
workspace = Workspace(sys.argv[1])
run = tracking.TrainingRun.start_or_resume(
    workspace, "k", config={"a": 1}, inputs={}, libraries={}, git_commit=None)
run.finish()
import mlflow
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None, "MLflow's telemetry is on"
assert not mlflow.is_tracking_uri_set(), "the global address was changed"
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "new")],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in QUIET},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
