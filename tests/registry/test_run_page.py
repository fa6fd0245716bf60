"""The description of a run, as it grows from the training to the promotion."""

import pytest
from registry_pipeline import Pipeline

from recmeta.registry.models import versions
from recmeta.registry.runs.run_page import describe_run
from recmeta.registry.runs.training_run import log_evaluation
from recmeta.registry.tracking import connect
from recmeta.steps.learning import register

TAGS = {
    "recmeta.input.interactions": "3",
    "recmeta.input.users": "0",
    "recmeta.input.tasks": "0123",
    "recmeta.input.champion": "2",
    "recmeta.started_by": "kim",
    "recmeta.feature_service": "melu_v1",
    "recmeta.features_digest": "abcd",
    "recmeta.features": "user_profile:age, item_profile:genre",
    "mlflow.source.git.commit": "c0ffee",
    "mlflow.source.git.dirty": "true",
}


def test_a_new_run_says_what_it_reads() -> None:
    assert describe_run(TAGS, {"train_loss": 0.5}, None).split("\n\n") == [
        "**Data**: `interactions` version 3, `users` version 0, as tasks `0123`, going on from "
        "model version 2.",
        "**Code**: commit `c0ffee` with uncommitted changes, started by kim.",
        "**Features**: `melu_v1` (abcd): user_profile:age, item_profile:genre.",
        "**How good**: not evaluated yet.",
        "**Decision**: not registered yet.",
    ]


def test_an_evaluated_run_compares() -> None:
    tags = TAGS | {"recmeta.candidate": "maml", "recmeta.primary_metric": "mae"}
    metrics = {
        "ndcg_at_5.item-mean": 0.75,
        "mae.item-mean": 0.8,
        "mae.maml": 0.7,
        "train_loss": 0.5,
        "system/cpu_utilization_percentage": 99.0,
    }
    assert describe_run(tags, metrics, None).split("\n\n")[4] == (
        "| model | mae | ndcg_at_5 |\n"
        "| --- | ---: | ---: |\n"
        "| maml | 0.7000 |  |\n"
        "| item-mean | 0.8000 | 0.7500 |"
    )


def note(pipeline: Pipeline, run_id: str) -> str:
    found: str = connect(pipeline.workspace).get_run(run_id).data.tags["mlflow.note.content"]
    return found


def test_the_page_follows_the_model(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = pipeline.workspace
    monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "meta_train")
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "scheduled__2024-05-01")
    evaluation = pipeline.evaluate("k1", promoted=True, compared_with=None)
    run_id = evaluation.outputs.run_id
    assert "not evaluated yet" in note(pipeline, run_id)
    report = workspace / evaluation.outputs.report
    log_evaluation(
        workspace,
        run_id,
        report.read_json("evaluation.json")["metrics"],
        report,
        config={},
        candidate="meta-learner",
        primary_metric="mae",
    )
    assert "| meta-learner | 0.7000 |" in note(pipeline, run_id)
    assert "not registered yet" in note(pipeline, run_id)
    register.run(workspace, evaluation)
    text = note(pipeline, run_id)
    assert "version 1, promoted. Made champion by Airflow DAG meta_train, run sched" in text
    assert "it passed the gate" in text
    assert "- Better than item-mean." in text

    for name in ("DAG_ID", "DAG_RUN_ID"):
        monkeypatch.delenv(f"AIRFLOW_CTX_{name}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "kim")
    register.run(workspace, pipeline.evaluate("k2", promoted=True, compared_with="1"))
    versions.rollback(workspace)
    assert "Made champion by kim" in note(pipeline, run_id)
    assert "version 2 was rolled back" in note(pipeline, run_id)


def test_a_persons_own_description_stays(pipeline: Pipeline) -> None:
    workspace = pipeline.workspace
    evaluation = pipeline.evaluate("k1", promoted=True, compared_with=None)
    run_id = evaluation.outputs.run_id
    connect(workspace).set_tag(run_id, "mlflow.note.content", "Mine.")
    register.run(workspace, evaluation)
    assert note(pipeline, run_id) == "Mine."
