"""What the strategies compute is what they say, against slow and obvious computations.

Legend: W weights of a user.
"""

import dataclasses

import numpy as np
import pytest
import torch
from asking import closed_form, people_of

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinear
from recmeta.metalearn.algorithms.optimisation_based.maml import MAML
from recmeta.metalearn.model import Model
from recmeta.metalearn.networks.network import layer_of
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.evidence.adaptive_loss import falls_by_class, measure_falls
from recmeta.serving.evidence.familiarity import LatentClasses
from recmeta.serving.evidence.gradient_norm import gradient_norm_times_popularity
from recmeta.serving.evidence.greedy import GreedyConfig, greedy_loss
from recmeta.serving.evidence.information import About, InformationGain
from recmeta.serving.evidence.query_loss import query_loss
from recmeta.serving.evidence.strategy import Candidates, SoFar
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet

ALL_KNOW = LatentClasses(np.ones(1), np.full((1, 12), 1 - 1e-9))


@pytest.fixture(scope="module")
def candidates(task_set: TaskSet) -> Candidates:
    return Candidates.most_rated(task_set.tasks("train"), task_set.spec.num_items, 12)


def _with_answer(tasks: Tasks, item: int, value: float = 4.0) -> Tasks:
    size = len(tasks)
    more = Ragged.from_lists([[item]] * size, [[value]] * size)
    return dataclasses.replace(tasks, support=tasks.support.followed_by(more))


def _covariance(model: Model, tasks: Tasks) -> torch.Tensor:
    whitener_BWW = Scorer.of(model).adapt(tasks)["whitener"].double()
    return whitener_BWW.mT @ whitener_BWW


@pytest.mark.parametrize("about", ["weights", "predictions"])
def test_information_is_what_the_posterior_loses(
    task_set: TaskSet, candidates: Candidates, about: About
) -> None:
    model = closed_form(task_set)
    people = people_of(model, task_set.tasks("test"))
    users = people.after(people.answers.position < 2)
    strategy = InformationGain(model, candidates, ALL_KNOW, about)
    found_BC = strategy.worth(SoFar.of(candidates, users))
    assert isinstance(model.learner, BayesianLinear)
    rows = model.catalogue.item_rows(candidates.item_C)
    design_CW = model.learner.linear_parts(model.params, rows)[1][0].double()
    share_C = torch.from_numpy(candidates.share_C / candidates.share_C.sum())
    before = _covariance(model, users)
    for c, item in enumerate(candidates.item_C.tolist()):
        after = _covariance(model, _with_answer(users, item))
        if about == "weights":
            lost = (before.logdet() - after.logdet()) / 2
        else:
            lost = ((design_CW @ (before - after) * design_CW).sum(2) * share_C).sum(1)
        assert found_BC[:, c] == pytest.approx(lost.numpy(), rel=1e-3, abs=1e-5)


def test_a_learner_without_a_posterior_is_told_what_to_do(
    model: Model, candidates: Candidates
) -> None:
    with pytest.raises(UserError, match="ask by adaptive-loss"):
        InformationGain(model, candidates, ALL_KNOW, "weights")


@pytest.mark.parametrize("algorithm", ["maml", "bayesian-linear"])
def test_gradient_norms_are_those_of_automatic_differentiation(
    model: Model, task_set: TaskSet, algorithm: str
) -> None:
    model = model if algorithm == "maml" else closed_form(task_set)
    people = people_of(model, task_set.tasks("test"))
    tasks = people.after(people.answers.position < 2).take(np.arange(4))
    support = Scorer.of(model).support(tasks)
    learner = model.learner
    assert isinstance(learner, MAML | BayesianLinear)
    norm_B = learner.support_gradient_norm(model.params, support)
    for b in range(4):
        one = Scorer.of(model).support(tasks.take(np.array([b])))
        if isinstance(learner, MAML):
            weights = {
                n: p.detach().requires_grad_()
                for n, p in model.params.items()
                if layer_of(n) is not None
            }
            user_BF = learner.network.embed_users(model.params, one.user, 1)
            output_R = learner.network.forward(
                {**model.params, **weights},
                user_BF[0],
                learner._embed(model.params, one.rows).tables[0][0],
                one.rows.statistics_BRD[0],
            )
            loss = (output_R - one.rows.value_BR[0]).square().mean()
            gradients = torch.autograd.grad(loss, list(weights.values()))
        else:
            nothing = tasks.take(np.array([b])).with_shots(0)
            prior_W = Scorer.of(model).adapt(nothing)["weights"][0].requires_grad_()
            offset, design, noise = learner.linear_parts(model.params, one.rows)
            surprise = one.rows.value_BR[0] - offset[0] - design[0] @ prior_W
            loss = (surprise.square() / (2 * noise[0])).sum()
            gradients = torch.autograd.grad(loss, [prior_W])
        squares = sum(float(g.square().sum()) for g in gradients)
        assert float(norm_B[b]) == pytest.approx(squares**0.5, rel=1e-4)


def test_gradient_norm_times_popularity(
    model: Model, task_set: TaskSet, candidates: Candidates
) -> None:
    people = people_of(model, task_set.tasks("train"))
    order = gradient_norm_times_popularity(model, people, candidates, np.random.default_rng(0))
    finite_C = np.isfinite(order.worth_C)
    answered_C = candidates.marked(people.answers).any(0)
    assert (finite_C == answered_C).all()
    assert (order.worth_C[finite_C] > 0).all()
    assert order.worth_C.max() <= 1
    norm_C = order.worth_C / candidates.share_C * candidates.share_C.max()
    assert norm_C.max() == pytest.approx(1)


def test_the_first_item_of_the_greedy_list_lowers_the_loss_most(
    task_set: TaskSet, candidates: Candidates
) -> None:
    model = closed_form(task_set)
    people = people_of(model, task_set.tasks("train"))
    order = greedy_loss(model, people, candidates, GreedyConfig(num_items=2, num_considered=12))
    losses = []
    for item in candidates.item_C.tolist():
        losses.append(query_loss(model, people.after(people.answers.item == item)).mean())
    assert int(np.argmax(order.worth_C)) == int(np.argmin(losses))
    listed = np.argsort(-order.worth_C)
    assert (np.diff(candidates.share_C[listed[2:]]) <= 0).all()


def test_falls_are_of_the_loss_and_a_class_leans_on_all(
    task_set: TaskSet, candidates: Candidates
) -> None:
    model = closed_form(task_set)
    people = people_of(model, task_set.tasks("train"))
    found = measure_falls(model, people, candidates, np.random.default_rng(0), most_before=0)
    before = query_loss(model, people.users)
    for n in range(0, len(found.fall_N), 7):
        user, item = int(found.user_N[n]), int(candidates.item_C[found.place_N[n]])
        given_N = (people.answers.task == user) & (people.answers.item == item)
        after = query_loss(model, people.after(given_N))[user]
        assert found.fall_N[n] == pytest.approx(before[user] - after, abs=1e-6)
    classes = LatentClasses(np.array([0.5, 0.5]), np.full((2, 12), 0.5))
    member_UK = np.tile([1.0, 0.0], (len(people), 1))
    fall_KC = falls_by_class(found, classes, member_UK)
    low, high = found.fall_N.min(), found.fall_N.max()
    assert ((low <= fall_KC) & (fall_KC <= high)).all()
    spread_K = np.abs(fall_KC - found.fall_N.mean()).sum(1)
    assert spread_K[0] > spread_K[1]  # of the class without members only the items' means are known
