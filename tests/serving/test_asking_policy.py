"""A learned policy of asking: it begins greedily, and learns what greedy choices do not see."""

import os

import numpy as np
import pytest
import torch
from asking import closed_form, people_of

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.asking_policy.fit import (
    PolicyConfig,
    Prior,
    after_asking,
    fit_policy,
    simulate,
    simulated_return,
)
from recmeta.serving.asking_policy.policy import (
    AskingPolicy,
    Questions,
    init_policy,
)
from recmeta.serving.evidence.familiarity import LatentClasses, knows
from recmeta.serving.evidence.fitting import as_training_users_left_it
from recmeta.serving.evidence.information import InformationGain
from recmeta.serving.evidence.interview import interview
from recmeta.serving.evidence.strategy import Candidates, SoFar
from recmeta.tasks.task_set import TaskSet

LIKED_FROM = 4.0


@pytest.fixture(scope="module")
def model(task_set: TaskSet) -> Model:
    return as_training_users_left_it(closed_form(task_set), task_set.tasks("train"))


@pytest.fixture(scope="module")
def candidates(model: Model, task_set: TaskSet) -> Candidates:
    return Candidates.most_rated(task_set.tasks("train"), model.catalogue.num_items, 20)


@pytest.fixture(scope="module")
def classes(candidates: Candidates, task_set: TaskSet) -> LatentClasses:
    known_UC = knows(candidates, task_set.tasks("train"))
    return LatentClasses.fit(known_UC, 3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def untrained(model: Model, candidates: Candidates, classes: LatentClasses) -> AskingPolicy:
    questions = Questions.of(model, candidates, classes, LIKED_FROM)
    return AskingPolicy(model, questions, classes, init_policy(torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def so_far(model: Model, candidates: Candidates, task_set: TaskSet) -> SoFar:
    people = people_of(model, task_set.tasks("test"))
    return SoFar.of(candidates, people.after(people.answers.position < 2))


def test_it_begins_with_the_greedy_information_gain(
    model: Model,
    candidates: Candidates,
    classes: LatentClasses,
    untrained: AskingPolicy,
    so_far: SoFar,
) -> None:
    greedy = InformationGain(model, candidates, classes, "predictions")
    sharpness = float(untrained.params["policy.log_sharpness"].exp())
    expected_BC = sharpness * np.log(greedy.worth(so_far))
    np.testing.assert_allclose(untrained.worth(so_far), expected_BC, atol=1e-3)


def test_what_is_believed_after_answers_is_what_the_model_adapts_to(
    model: Model, classes: LatentClasses, untrained: AskingPolicy, task_set: TaskSet
) -> None:
    """The rank-one updates of simulated users against the closed form, item by item."""
    questions = untrained.questions
    people = people_of(model, task_set.tasks("test"))
    users = people.after(people.answers.position < 0)
    state = Scorer.of(model).adapt(users)
    prior = Prior(
        state["weights"].double(),
        state["whitener"].double(),
        torch.from_numpy(classes.weight_K),
    )
    drawn = simulate(prior, questions, 6, torch.Generator().manual_seed(1))
    belief = drawn.belief
    for place in (0, 3, 7):
        belief, answers_B = after_asking(questions, belief, torch.full((6,), place), drawn)
    b = int(belief.num_answered_B.argmax())
    places = [c for c in (0, 3, 7) if drawn.answers_BC[b, c]]
    assert places, "nobody knows the most popular items"
    design = questions.design_CW[places]
    weight = (design / questions.noise_C[places, None]).T
    precision = torch.linalg.inv(drawn.belief.covariance_BWW[b]) + weight @ design
    mean = drawn.belief.mean_BW[b]
    surprise = drawn.value_BC[b, places] - questions.offset_C[places] - design @ mean
    expected = mean + torch.linalg.solve(precision, weight @ surprise)
    torch.testing.assert_close(belief.mean_BW[b], expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(belief.covariance_BWW[b], torch.linalg.inv(precision))
    assert bool(answers_B.dtype == torch.bool)
    torch.testing.assert_close(belief.member_BK.sum(1), torch.ones(6, dtype=torch.float64))


def sixteen_kinds() -> tuple[Prior, Questions]:
    """Return a world in which greedy choices are short-sighted: members of each of sixteen kinds
    know and like four items of their own. Nobody likes the last four, which each half of the kinds
    knows: four answers about them say which kind a user is."""
    kind_K = torch.arange(16)
    owner_C = kind_K.repeat_interleave(4)
    splits_K4 = (kind_K[:, None] >> torch.arange(4)) % 2 == 1
    known_KC = torch.cat([kind_K[:, None] == owner_C, splits_K4], 1)
    share_KC = known_KC.double() * 0.98 + 0.01
    num_items = share_KC.shape[1]
    offset_C = torch.where(torch.arange(num_items) < 64, 3.0, -1.0).double()
    zeros_CW = torch.zeros((num_items, 1), dtype=torch.float64)
    questions = Questions(
        offset_C=offset_C,
        design_CW=zeros_CW + 0.1,
        noise_C=torch.full((num_items,), 0.3, dtype=torch.float64),
        share_C=share_KC.mean(0),
        share_KC=share_KC,
        target_WW=torch.full((1, 1), 0.01, dtype=torch.float64),
        liked_from=0.0,
    )
    one_1W = torch.ones((1, 1), dtype=torch.float64)
    return Prior(0 * one_1W, one_1W[None], torch.full((16,), 1 / 16).double()), questions


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="set RECMETA_SLOW=1")
def test_it_learns_to_ask_first_what_pays_later() -> None:
    prior, questions = sixteen_kinds()
    config = PolicyConfig(
        aim="liking", num_questions=8, num_users=128, num_steps=150, learning_rate=0.03
    )
    fitted = fit_policy(prior, questions, config)
    untrained = init_policy(torch.Generator().manual_seed(0))
    greedy = simulated_return(untrained, prior, questions, config, 500)
    learned = simulated_return(fitted, prior, questions, config, 500)
    assert learned > greedy + 0.3, (learned, greedy)


def test_the_same_seed_gives_the_same_policy() -> None:
    config = PolicyConfig(num_questions=2, num_users=8, num_steps=2)
    fitted, again = (fit_policy(*sixteen_kinds(), config) for _ in range(2))
    for name, p in fitted.items():
        assert torch.equal(p, again[name]), name


def test_real_people_are_asked_by_it(
    untrained: AskingPolicy, candidates: Candidates, model: Model, task_set: TaskSet
) -> None:
    people = people_of(model, task_set.tasks("test"))
    held = interview(untrained, candidates, people, 4)
    assert (held.item_BQ >= 0).all()
    for asked in held.item_BQ:
        assert len(set(asked.tolist())) == 4
    one = people.take(np.array([2]))
    alone = interview(untrained, candidates, one, 4)
    np.testing.assert_array_equal(alone.item_BQ[0], held.item_BQ[2])


def test_a_model_without_a_posterior_is_refused(
    candidates: Candidates, classes: LatentClasses, task_set: TaskSet
) -> None:
    from recmeta.metalearn.model_config import ModelConfig

    other = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
    with pytest.raises(UserError, match="posterior"):
        Questions.of(other, candidates, classes, LIKED_FROM)


def test_settings_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="num_steps is 0; it must be at least 1"):
        PolicyConfig(num_steps=0)
    with pytest.raises(ValueError, match="num_users is 1; it must be at least 2"):
        PolicyConfig(num_users=1)
