import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import validate_param_and_metric_name

from recmeta.errors import UserError
from recmeta.registry.tracking import (
    QUIET,
    connect,
    create_run,
    data_versions,
    experiment_id,
    mlflow_name,
    store_name,
    tracking_uri,
)
from recmeta.workspace import Workspace


def test_default_store_is_in_the_workspace(workspace: Workspace) -> None:
    assert tracking_uri(workspace) == f"sqlite:///{workspace.path}/mlflow.db"
    client = connect(workspace)
    experiment = client.get_experiment(experiment_id(client))
    assert experiment.name == "recmeta"
    assert experiment.artifact_location == "mlflow-artifacts:/"  # beside the database
    assert workspace.exists("mlflow.db")


def test_mlflows_page_opens_the_experiment_with_its_runs(workspace: Workspace) -> None:
    client = connect(workspace)
    new = client.get_experiment(experiment_id(client))
    assert new.tags["mlflow.experimentKind"] == "custom_model_development"
    client.delete_experiment_tag(new.experiment_id, "mlflow.experimentKind")  # as it was before
    assert client.get_experiment(experiment_id(client)).tags == new.tags
    assert os.environ["MLFLOW_TRACE_SAMPLING_RATIO"] == "0"


def test_environment_names_the_store(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_name(workspace) == "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example:5000/base")
    assert tracking_uri(workspace) == "https://me:secret@mlflow.example:5000/base"
    assert store_name(workspace) == "https://mlflow.example:5000/base"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mlflow.db")
    assert store_name(workspace) == "sqlite:////tmp/mlflow.db"


def test_object_store_needs_a_server() -> None:
    workspace = Workspace("s3://bucket/ws?region=eu-central-1")
    with pytest.raises(UserError, match=r"s3://bucket/ws .* set MLFLOW_TRACKING_URI"):
        tracking_uri(workspace)


def test_unknown_run_is_the_users_mistake(workspace: Workspace) -> None:
    experiment_id(connect(workspace))
    with pytest.raises(UserError, match=r"has no run 0123abcd,.* MLFLOW_TRACKING_URI"):
        data_versions(workspace, "0123abcd")


def test_deleted_experiment_is_the_users_mistake(workspace: Workspace) -> None:
    client = connect(workspace)
    client.delete_experiment(experiment_id(client))
    with pytest.raises(UserError, match="mlflow experiments restore"):
        experiment_id(client)


def test_runs_carry_what_mlflows_context_knows(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", '{"cluster": "blue"}')
    client = connect(workspace)
    run_id = create_run(client, experiment_id(client), "a name", "step", {"own": "1"})
    tags = client.get_run(run_id).data.tags
    assert tags == {
        "mlflow.runName": "a name",
        "mlflow.user": "kim",
        "mlflow.source.name": "recmeta step",
        "mlflow.source.type": "LOCAL",
        "cluster": "blue",
        "own": "1",
    }


@given(st.text(min_size=1))
def test_any_name_becomes_one_that_mlflow_takes(name: str) -> None:
    assert validate_param_and_metric_name(mlflow_name(name))


def test_first_use_prints_nothing_and_leaves_mlflows_globals_alone(tmp_path: Path) -> None:
    code = """
import os, sys
from recmeta.registry import tracking
from recmeta.registry.models import versions
from recmeta.registry.models.features import FeaturesRead
from recmeta.registry.runs.training_run import TrainingRun
from recmeta.steps.learning import register
from recmeta.workspace import Workspace
assert "mlflow" not in sys.modules, "importing recmeta.registry imports MLflow"
assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ, "importing changes the environment"
workspace = Workspace(sys.argv[1])
run = TrainingRun.start_or_resume(
    workspace, "k", config={"a": 1}, inputs={}, tasks_config={}, device="cpu", libraries={},
    features=FeaturesRead(service="s", features=(), with_model=(), digest="d"), git_commit=None)
with run:
    pass
import mlflow
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None, "MLflow's telemetry is on"
assert not mlflow.is_tracking_uri_set(), "the global address was changed"
assert mlflow.active_run() is None
assert "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING" not in os.environ
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
