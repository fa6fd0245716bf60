"""Strategies ask what they should: nothing twice, nothing that depends on who else is asked."""

import dataclasses

import numpy as np
import pytest
from asking import closed_form, people_of

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.serving.evidence.familiarity import LatentClasses
from recmeta.serving.evidence.fitting import (
    as_training_users_left_it,
    at_the_end,
    try_answers,
)
from recmeta.serving.evidence.greedy import GreedyConfig
from recmeta.serving.evidence.interview import interview
from recmeta.serving.evidence.questionnaire import (
    STRATEGIES,
    Questionnaire,
    QuestionnaireConfig,
)
from recmeta.serving.evidence.respondents import Respondents
from recmeta.serving.evidence.strategy import SoFar, next_questions
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.workspace import Folder

CONFIG = QuestionnaireConfig(
    num_candidates=20, num_classes=3, greedy=GreedyConfig(num_items=4, num_considered=8)
)


@pytest.fixture(scope="module")
def asked_model(task_set: TaskSet) -> Model:
    return as_training_users_left_it(closed_form(task_set), task_set.tasks("train"))


@pytest.fixture(scope="module")
def questionnaire(asked_model: Model, task_set: TaskSet) -> Questionnaire:
    return try_answers(asked_model, task_set.tasks("train"), CONFIG).questionnaire(CONFIG)


@pytest.fixture(scope="module")
def people(asked_model: Model, task_set: TaskSet) -> Respondents:
    return people_of(asked_model, task_set.tasks("test"))


@pytest.fixture(scope="module")
def users(asked_model: Model, people: Respondents) -> Tasks:
    """Users with two answers each, so far."""
    return people.after(people.answers.position < 2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_asked_twice_and_each_user_is_asked_alone(
    name: str, asked_model: Model, questionnaire: Questionnaire, users: Tasks
) -> None:
    strategy = questionnaire.strategy(name, asked_model)
    unknown = Ragged.from_lists([[0, 5, 7]] * len(users), [[0.0] * 3] * len(users))
    asked = next_questions(strategy, questionnaire.candidates, users, unknown, 25)
    assert asked.shape == (len(users), 25)
    for b, row in enumerate(asked.tolist()):
        items = [item for item in row if item >= 0]
        assert len(set(items)) == len(items)
        known = users.take(np.array([b])).support.item.tolist()
        assert not set(items) & {*known, 0, 5, 7}
        left = set(questionnaire.candidates.item_C.tolist()) - {*known, 0, 5, 7}
        assert set(items) == left
        assert row[len(items) :] == [-1] * (25 - len(items))
    one = np.array([3])
    alone = next_questions(
        strategy, questionnaire.candidates, users.take(one), unknown.take(one), 25
    )
    assert alone.tolist() == asked[3:4].tolist()


def test_answers_are_those_that_were_given(
    asked_model: Model, questionnaire: Questionnaire, people: Respondents
) -> None:
    for name in ("popularity", "information-gain"):
        strategy = questionnaire.strategy(name, asked_model)
        held = interview(strategy, questionnaire.candidates, people, 6)
        for b in range(len(people)):
            own = people.answers.take(np.array([b])).item.tolist()
            asked = held.item_BQ[b].tolist()
            assert len(set(asked)) == 6
            assert held.answered_BQ[b].tolist() == [item in own for item in asked]
            after = held.after_questions(4).take(np.array([b])).support.item.tolist()
            assert sorted(after) == sorted(set(asked[:4]) & set(own))
        tasks, enough_B = held.after_answers(2)
        assert enough_B.tolist() == (held.answered_BQ.sum(1) >= 2).tolist()
        assert tasks.support.lengths[enough_B].tolist() == [2] * int(enough_B.sum())
        second_N = held.num_answers_BQ
        for b in np.flatnonzero(enough_B):
            first_two = held.item_BQ[b][held.answered_BQ[b] & (second_N[b] <= 2)]
            found = tasks.take(np.array([b])).support.item
            assert sorted(found.tolist()) == sorted(first_two.tolist())


def test_popularity_asks_in_the_order_of_the_training_users(
    questionnaire: Questionnaire, task_set: TaskSet, asked_model: Model, users: Tasks
) -> None:
    train = task_set.tasks("train")
    count = np.bincount(np.concatenate([train.support.item, train.query.item]))
    assert (np.diff(count[questionnaire.candidates.item_C]) <= 0).all()
    strategy = questionnaire.strategy("popularity", asked_model)
    fresh = dataclasses.replace(
        users, support=Ragged.from_lists([[]] * len(users), [[]] * len(users))
    )
    asked = next_questions(strategy, questionnaire.candidates, fresh, None, 3)
    assert asked.tolist() == [questionnaire.candidates.item_C[:3].tolist()] * len(users)


def test_what_is_not_known_changes_what_is_asked(
    questionnaire: Questionnaire, users: Tasks
) -> None:
    so_far = SoFar.of(questionnaire.candidates, users)
    before = questionnaire.classes.probability(so_far)
    asked_C = np.zeros(before.shape[1], np.bool_)
    asked_C[:4] = True
    declined = dataclasses.replace(so_far, unknown_BC=~so_far.known_BC & asked_C)
    assert questionnaire.classes.probability(declined).mean() < before.mean()


def test_classes_find_two_kinds_of_people() -> None:
    generator = np.random.default_rng(0)
    kind = np.arange(200) < 60
    first_half = np.arange(20) < 10
    share = np.where(kind[:, None] == first_half, 0.8, 0.1)
    knows = generator.random(share.shape) < share
    found = LatentClasses.fit(knows, 2, generator)
    member = found.membership(knows, ~knows)
    rare = int(np.argmin(found.weight_K))
    assert found.weight_K[rare] == pytest.approx(0.3, abs=0.03)
    assert ((member[:, rare] > 0.5) == kind).mean() > 0.97
    nothing = np.zeros((1, 20), np.bool_)
    assert found.membership(nothing, nothing)[0] == pytest.approx(found.weight_K)
    one = LatentClasses.fit(knows, 1, generator)
    assert one.share_KC[0] == pytest.approx(knows.mean(0), abs=1e-6)


def test_a_questionnaire_is_kept(
    asked_model: Model, questionnaire: Questionnaire, users: Tasks, tmp_path: str
) -> None:
    folder = Folder.at(tmp_path)
    questionnaire.save(folder, asked_model)
    again = Questionnaire.load(folder, asked_model)
    assert again.config == questionnaire.config
    for name in STRATEGIES:
        asked = [
            next_questions(q.strategy(name, asked_model), q.candidates, users, None, 5).tolist()
            for q in (questionnaire, again)
        ]
        assert asked[0] == asked[1], name


def test_what_does_not_apply_says_so(
    model: Model,
    implicit_model: Model,
    questionnaire: Questionnaire,
    asked_model: Model,
    users: Tasks,
) -> None:
    assert "information-gain" in questionnaire.names(asked_model)
    assert "information-gain" not in questionnaire.names(model)
    with pytest.raises(UserError, match="needs a posterior"):
        questionnaire.strategy("information-gain", model)
    with pytest.raises(UserError, match="Did you mean 'popularity'"):
        questionnaire.strategy("popularty", model)
    with pytest.raises(UserError, match="implicit feedback"):
        try_answers(implicit_model, at_the_end(users, implicit_model), CONFIG)
