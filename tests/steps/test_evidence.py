"""The questionnaire of a workspace's champion, and what asking its cold users is worth."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from trained import Trained

from recmeta import schema
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.registry.models import versions
from recmeta.serving.evidence.fitting import as_training_users_left_it
from recmeta.serving.evidence.greedy import GreedyConfig
from recmeta.serving.evidence.questionnaire import QuestionnaireConfig
from recmeta.steps.parts.evidence_trial import HeldOut, TrialConfig
from recmeta.steps.serving import evidence
from recmeta.steps.serving.evidence import EvidenceConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Workspace

TRIAL = TrialConfig(questions=(0, 2, 5), answers=(0, 1), num_draws=2, num_resamples=50)
CONFIG = EvidenceConfig(
    questionnaire=QuestionnaireConfig(
        num_candidates=30, greedy=GreedyConfig(num_items=3, num_considered=6, num_rechecked=2)
    ),
    classes=(1, 2),
    trial=TRIAL,
)


def test_questions_and_what_they_are_worth(trained: Trained) -> None:
    made = evidence.run(CONFIG, trained.workspace, device="cpu")
    assert evidence.run(CONFIG, trained.workspace, device="cpu").reused
    questions = evidence.first_questions(trained.workspace, made, None, 4)
    assert made.outputs.recommended in questions
    assert "information-gain" in questions  # the default learner has a posterior
    for found in questions.values():
        assert len({row["item_id"] for row in found}) == 4
    assert (
        len(evidence.first_questions(trained.workspace, made, "popularity", 99)["popularity"]) == 30
    )

    simulated = evidence.simulate(TRIAL, trained.workspace, made, device="cpu")
    folder = trained.workspace / simulated.outputs.report
    result = folder.read_json("simulation.json")
    assert result["num_users"] == simulated.counts["users"] > 10
    start = [s["by_questions"]["mae"][0]["mean"] for s in result["strategies"].values()]
    assert start == pytest.approx([start[0]] * len(start))  # before a question all are the same
    for found in result["strategies"].values():
        answers = [p["mean"] for p in found["by_questions"]["answers"]]
        assert answers == sorted(answers)
        assert answers[0] == 0
        assert answers[-1] <= 5
    control = result["strategies"]["popularity"]["mae_less_popularity"]
    assert [p["mean"] for p in control] == [0.0] * 3
    assert "**" + made.outputs.recommended + "**" in folder.read_bytes("simulation.md").decode()
    assert folder.read_bytes("simulation.png").startswith(b"\x89PNG")


def test_held_out_users_answer_with_all_that_they_rated(trained: Trained) -> None:
    version = versions.champion(trained.workspace)
    assert version is not None
    task_set = TaskSet(trained.workspace / trained.tasks.outputs.tasks)
    model = Model.load(versions.model_folder(trained.workspace, version))
    train = task_set.tasks("train")
    model = as_training_users_left_it(model.on(task_set.items(), task_set.statistics()), train)
    statistics = model.catalogue.statistics
    assert statistics.num_users.sum() == len(train.support.item) + len(train.query.item)
    config = dataclasses.replace(TRIAL, most_users=7)
    test = task_set.tasks("test")
    held_out = HeldOut.of(trained.workspace, trained.tasks, test, model, config)
    assert len(held_out.users) == 7
    version_then = trained.tasks.inputs["interactions"]
    then = pl.read_delta(
        trained.workspace.table_uri(schema.INTERACTIONS), version=version_then
    ).filter(pl.col(schema.USER_ID).is_in(held_out.users.user_id))
    assert len(held_out.rows.item) == then.select(schema.USER_ID, schema.ITEM_ID).unique().height
    assert not held_out.rows.counted.any()
    for people in held_out.draws(config):
        assert (people.users.query.lengths >= 1).all()
        both = people.users.query.lengths + people.answers.lengths
        assert both.tolist() == held_out.rows.lengths[held_out.rows.lengths >= 2].tolist()
        asked = set(zip(people.answers.task.tolist(), people.answers.item.tolist(), strict=True))
        query = people.users.query
        assert not asked & set(zip(query.task.tolist(), query.item.tolist(), strict=True))
    first, second = (p.users.query.item for p in held_out.draws(config))
    assert not np.array_equal(first, second)


def test_there_must_be_a_champion(tmp_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="there is no workspace"):
        evidence.run(CONFIG, Workspace(tmp_path))
