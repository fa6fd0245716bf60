"""An evaluation takes as many cold users as it is told, and its report says so."""

import dataclasses

import pytest
from trained import Trained

from recmeta.evaluation import judgement
from recmeta.evaluation.evaluate import EvaluationConfig
from recmeta.evaluation.judgement import JudgementConfig
from recmeta.steps.learning import evaluate
from recmeta.tasks.task_set import TaskSet


def test_the_report_says_how_many_users_were_drawn(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = JudgementConfig(
        baselines=("item-mean",), evaluation=EvaluationConfig(most_users=7, num_resamples=20)
    )
    with monkeypatch.context() as patch:
        patch.setattr(judgement, "MOST_ROWS", 500)
        report = evaluate.run(config, trained.workspace, trained.tasks, trained.model, device="cpu")
    num_tasks = TaskSet(trained.workspace / trained.tasks.outputs.tasks).spec.num_tasks
    assert report.counts["cold_users"] == 7 < num_tasks["test"]
    folder = trained.workspace / report.outputs.report
    drawn = folder.read_json("evaluation.json")["drawn"]
    assert drawn.startswith(
        f"The log is large, so that users were drawn evenly: 7 of {num_tasks['test']} cold users, "
    )
    assert f"of {num_tasks['train']} training users for the baselines" in drawn
    assert drawn in folder.read_bytes("report.md").decode()
    whole = dataclasses.replace(config, evaluation=EvaluationConfig(num_resamples=20))
    report = evaluate.run(whole, trained.workspace, trained.tasks, trained.model, device="cpu")
    assert report.counts["cold_users"] == num_tasks["test"]
    assert (trained.workspace / report.outputs.report).read_json("evaluation.json")["drawn"] is None
