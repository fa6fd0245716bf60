import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.registry.models.features import FeaturesRead
from recmeta.registry.runs.training_run import TrainingRun, log_evaluation
from recmeta.registry.tracking import connect, data_versions, experiment_id
from recmeta.workspace import Workspace

CONFIG: dict[str, Any] = {
    "network": {"hidden_dims": [64, 64]},
    "seed": 3,
    "long": "x" * 5000,
    "many": {f"p{i}": i for i in range(150)},
}
FEATURES = FeaturesRead(
    service="melu_v1",
    features=("user_profile:age", "item_profile:genre"),
    with_model=("item_statistics:num_users",),
    digest="abcd",
)


def start(workspace: Workspace, key: str = "k1", **changes: Any) -> TrainingRun:
    arguments: dict[str, Any] = {
        "config": CONFIG,
        "inputs": {"interactions": 3, "users": 0, "tasks": "0123"},
        "tasks_config": {"split": {"test_share": 0.2}, "seed": 5},
        "features": FEATURES,
        "device": "cpu",
        "libraries": {"torch": "2.13.0"},
        "git_commit": "c0ffee",
    }
    return TrainingRun.start_or_resume(workspace, key, **(arguments | changes))


def test_run_holds_all_that_made_the_model(workspace: Workspace) -> None:
    run = start(workspace)
    found = connect(workspace).get_run(run.run_id)
    assert found.info.status == "RUNNING"
    assert found.data.params["network.hidden_dims"] == "[64, 64]"
    assert found.data.params["many.p149"] == "149"
    assert len(found.data.params["long"]) == 500
    tags = found.data.tags
    assert tags["recmeta.seed"] == "3"
    assert tags["recmeta.device"] == "cpu"
    assert tags["recmeta.threads"] == str(torch.get_num_threads())
    assert tags["recmeta.feature_service"] == "melu_v1"
    assert tags["recmeta.features_digest"] == "abcd"
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mlflow.source.git.dirty"] in ("true", "false")
    assert tags["mlflow.source.name"] == "recmeta meta-train"
    assert len(tags["recmeta.config_hash"]) == 16
    datasets = {d.dataset.name: d.dataset for d in found.inputs.dataset_inputs}
    assert set(datasets) == {"interactions", "users"}
    assert datasets["interactions"].source_type == "delta_table"
    assert json.loads(datasets["interactions"].source) == {
        "path": "tables/interactions",
        "delta_table_version": 3,
    }
    artifacts = Path(workspace.path) / "mlartifacts" / run.run_id / "artifacts"
    assert json.loads((artifacts / "config.json").read_text()) == CONFIG
    assert json.loads((artifacts / "environment.json").read_text()) == {"torch": "2.13.0"}
    assert json.loads((artifacts / "tasks.json").read_text()) == {
        "config": {"split": {"test_share": 0.2}, "seed": 5},
        "key": "0123",
    }
    assert json.loads((artifacts / "features.json").read_text()) == {
        "service": "melu_v1",
        "features": ["user_profile:age", "item_profile:genre"],
        "with_model": ["item_statistics:num_users"],
        "digest": "abcd",
    }
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
    assert len(client.search_runs([experiment_id(client)])) == 1


def test_other_key_is_another_run(workspace: Workspace) -> None:
    assert start(workspace, "k1").run_id != start(workspace, "k2").run_id


def test_the_run_ends_as_the_training_did(workspace: Workspace) -> None:
    with start(workspace) as run:
        pass
    assert connect(workspace).get_run(run.run_id).info.status == "FINISHED"
    with pytest.raises(KeyboardInterrupt), start(workspace, "k2") as run:
        raise KeyboardInterrupt
    assert connect(workspace).get_run(run.run_id).info.status == "FAILED"


def busy(workspace: Workspace, key: str, seconds: float) -> dict[str, list[int]]:
    """Train for a while; return the steps of each series about the machine."""
    with start(workspace, key) as run:
        for number in range(1, 6):
            run.log_epoch(Epoch(number, 1.0, 1.0))  # beside the monitor's thread
            time.sleep(seconds / 5)
    client = connect(workspace)
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics["train_loss"] == 1.0
    return {
        name: [m.step for m in client.get_metric_history(run.run_id, name)]
        for name in metrics
        if name.startswith("system/")
    }


def test_the_run_says_how_busy_the_machine_was(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    found = busy(workspace, "k1", 1.0)
    assert {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_percentage",
    } <= set(found)
    steps = found["system/cpu_utilization_percentage"]
    assert steps == list(range(len(steps)))
    again = busy(workspace, "k1", 1.0)["system/cpu_utilization_percentage"]
    assert len(again) > len(steps)
    assert again == list(range(len(again)))


def test_mlflows_own_switch_turns_that_off(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    assert busy(workspace, "k1", 0.5) == {}


def test_evaluation_is_logged_once(workspace: Workspace) -> None:
    run = start(workspace)
    report = workspace / "reports" / "e1"
    for name in ("evaluation.json", "report.md", "curve.png", "per_user.parquet", "other.tmp"):
        report.write_bytes(name, name.encode())
    metrics = {
        "meta-learner": {"mae": 0.7, "ndcg@5": 0.81, "rmse": None},
        "item-mean": {"mae": 0.8, "ndcg@5": math.nan},
    }
    for _ in range(2):
        log_evaluation(
            workspace,
            run.run_id,
            metrics,
            report,
            config={"gate": {"alpha": 0.05}},
            candidate="meta-learner",
            primary_metric="mae",
        )

    client = connect(workspace)
    assert client.get_run(run.run_id).data.metrics == {
        "mae.meta-learner": 0.7,
        "ndcg_at_5.meta-learner": 0.81,
        "mae.item-mean": 0.8,
        "mae": 0.7,  # the candidate's, by a name that the runs of all learners share
    }
    assert len(client.get_metric_history(run.run_id, "mae.item-mean")) == 1
    assert [a.path for a in client.list_artifacts(run.run_id, "evaluation")] == [
        "evaluation/config.json",
        "evaluation/curve.png",
        "evaluation/evaluation.json",
        "evaluation/per_user.parquet",
        "evaluation/report.md",
    ]
