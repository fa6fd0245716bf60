from pathlib import Path

from mlflow.artifacts import load_dict
from registry_pipeline import Pipeline

from recmeta.evaluation.baseline import Trial
from recmeta.registry.runs.tuning import log_tuning
from recmeta.registry.tracking import connect, experiment_id

TRIALS = [
    Trial(method="item-mean", config={"regularisation": r}, loss=mae)
    for r, mae in ((1.0, 0.9), (2.0, 0.8), (5.0, 0.85))
] + [Trial(method="mf", config={"num_factors": 4, "ridge": 0.5}, loss=0.7)]


def test_a_nested_run_per_method(pipeline: Pipeline) -> None:
    workspace = pipeline.workspace
    run_id = pipeline.train("k1")
    client = connect(workspace)
    experiment = experiment_id(client)
    log_tuning(workspace, run_id, "meta-train", TRIALS)
    nested = "tags.`mlflow.parentRunId` = '" + run_id + "'"
    first = client.search_runs([experiment], nested)
    for _ in range(2):
        log_tuning(workspace, run_id, "meta-train", TRIALS)
        log_tuning(workspace, run_id, "evaluate", TRIALS[:3])
    found = {run.info.run_name: run for run in client.search_runs([experiment], nested)}
    assert set(found) == {
        "meta-train: tune item-mean",
        "meta-train: tune mf",
        "evaluate: tune item-mean",
    }
    assert len(client.search_runs([experiment], nested)) == 3
    assert {run.info.run_id for run in first} < {run.info.run_id for run in found.values()}

    run = found["meta-train: tune item-mean"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"regularisation": "2.0", "num_candidates": "3"}
    assert run.data.metrics["dev_mae"] == 0.8
    history = client.get_metric_history(run.info.run_id, "dev_mae_by_candidate")
    assert [(m.step, m.value) for m in history] == [(0, 0.9), (1, 0.8), (2, 0.85)]
    table = Path(client.download_artifacts(run.info.run_id, "candidates.json"))
    assert load_dict(table.as_uri()) == {
        "columns": ["regularisation", "dev_mae"],
        "data": [[1.0, 0.9], [2.0, 0.8], [5.0, 0.85]],
    }


def test_one_that_was_killed_is_logged_again(pipeline: Pipeline) -> None:
    workspace = pipeline.workspace
    run_id = pipeline.train("k1")
    log_tuning(workspace, run_id, "meta-train", TRIALS[:3])
    client = connect(workspace)
    experiment = experiment_id(client)
    nested = "tags.`mlflow.parentRunId` = '" + run_id + "'"
    (child,) = client.search_runs([experiment], nested)
    client.update_run(child.info.run_id, status="RUNNING")
    log_tuning(workspace, run_id, "meta-train", TRIALS[:3])
    (again,) = client.search_runs([experiment], nested)
    assert again.info.run_id != child.info.run_id
    assert again.info.status == "FINISHED"


def test_nothing_tried_is_nothing_logged(pipeline: Pipeline) -> None:
    run_id = pipeline.train("k1")
    log_tuning(pipeline.workspace, run_id, "meta-train", [])
    client = connect(pipeline.workspace)
    assert len(client.search_runs([experiment_id(client)])) == 1
