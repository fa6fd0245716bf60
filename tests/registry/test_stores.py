"""The same life of a model in every kind of store: SQLite, PostgreSQL, and behind a server."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_server import serving
from postgresql import postgresql
from registry_pipeline import CONFIG, INPUTS, Pipeline

from recmeta.evaluation.baseline import Trial
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.registry import tracking
from recmeta.registry.models import versions
from recmeta.registry.models.features import features_read
from recmeta.registry.runs import record
from recmeta.registry.runs.training_run import TrainingRun, log_evaluation
from recmeta.registry.runs.tuning import log_tuning
from recmeta.steps.learning import register
from recmeta.workspace import Workspace


@pytest.fixture
def sqlite(workspace: Workspace) -> str:
    return tracking.tracking_uri(workspace)


@pytest.fixture
def postgres() -> Iterator[str]:
    with postgresql("mlflow") as address:
        yield f"{address}/mlflow"


@pytest.fixture
def server(sqlite: str, tmp_path: Path) -> Iterator[str]:
    """`mlflow server` in a process of its own, with the artifacts; yields its address."""
    command = ["-m", "mlflow", "server", "--backend-store-uri", sqlite, "--workers", "1"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    with serving([sys.executable, *command], tmp_path) as address:
        yield address


SERVER = pytest.param(
    "server",
    marks=pytest.mark.skipif(
        os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it"
    ),
)


@pytest.mark.parametrize("kind", ["sqlite", "postgres", SERVER])
def test_a_model_from_its_training_to_a_rollback(
    kind: str,
    pipeline: Pipeline,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = request.getfixturevalue(kind)
    monkeypatch.chdir(tmp_path)  # artifacts of PostgreSQL without a server go to ./mlruns
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    workspace = pipeline.workspace
    evaluations = [
        pipeline.evaluate(key, promoted=True, compared_with=before)
        for key, before in (("k1", None), ("k2", "1"))
    ]
    run_id = evaluations[0].outputs.run_id
    model = Model.load(workspace / "models" / "k1")
    resumed = TrainingRun.start_or_resume(
        workspace,
        "k1",
        config=CONFIG,
        inputs=INPUTS,
        tasks_config={"seed": 7},
        features=features_read(model),
        device="cpu",
        libraries={"torch": "2.13.0"},
        git_commit=None,
    )
    assert resumed.run_id == run_id
    with resumed:
        resumed.log_epoch(Epoch(1, 1 / 3, 2 / 3))
        time.sleep(0.5)
    trials = [Trial(method="mf", config={"num_factors": 4}, loss=0.1)]
    log_tuning(workspace, run_id, "meta-train", trials)
    report = workspace / evaluations[0].outputs.report
    evaluated = report.read_json("evaluation.json")
    evaluated["metrics"]["meta-learner"]["mae"] = 0.1 + 0.2
    report.write_json("evaluation.json", evaluated)
    log_evaluation(
        workspace,
        run_id,
        evaluated["metrics"],
        report,
        config={"gate": {"alpha": 0.05}},
        candidate="meta-learner",
        primary_metric="mae",
    )
    for evaluation in evaluations:
        register.run(workspace, evaluation)
    assert versions.rollback(workspace) == ("2", "1")

    found = record.read_record(workspace, run_id)
    assert found.metrics["mae.meta-learner"] == 0.1 + 0.2  # to the last bit
    assert found.metrics["train_loss"] == 1 / 3
    assert found.tasks_config == {"seed": 7}
    assert found.evaluate_config == {"gate": {"alpha": 0.05}}
    assert found.tables == {"interactions": 3, "users": 0}
    champion = versions.champion(workspace)
    assert champion is not None
    assert champion.run_id == run_id
    loaded = Model.load(versions.model_folder(workspace, champion))
    assert all((loaded.params[name] == p).all() for name, p in model.params.items())
    client = tracking.connect(workspace)
    run = client.get_run(run_id)
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert run.data.metrics["mae.meta-learner"] == 0.1 + 0.2
    assert "version 2 was rolled back" in run.data.tags["mlflow.note.content"]
    rebuilt = record.log_rebuild(workspace, run_id, found.metrics, reproduced=True, tolerance=0.0)
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert {r.info.run_name for r in nested} == {"meta-train: tune mf", f"rebuild {run_id[:8]}"}
    assert client.get_run(rebuilt).data.metrics == found.metrics
