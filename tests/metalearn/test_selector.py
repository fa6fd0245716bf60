"""The selector predicts as the members that its gate chose; its gate learns whom to give what."""

import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch
from maml_tasks import ITEM_FIELDS, USER_FIELDS, item_features, make_batch

from recmeta.config import parse, to_dict
from recmeta.evaluation.comparison.choice import judge_choice
from recmeta.metalearn import members
from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.combined.selector import (
    CHOICE,
    Member,
    Selector,
    SelectorConfig,
    as_member,
    of_member,
)
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.learner import Params
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.metalearn.tensors.task_metadata import METADATA, task_metadata
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet

SMALL = PreferenceConfig(embedding_dim=3, hidden_dims=())
WITHOUT_STEPS = Member(algorithm="maml", learner=MAMLConfig(num_steps=0, learn_rates=False))
TWO = SelectorConfig(
    members=(
        Member(algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=2)),
        Member(algorithm="maml", learner=MAMLConfig(num_steps=2)),
    ),
    width=4,
)
Choice = Literal["hard", "soft"]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def make(config: SelectorConfig) -> tuple[Selector, Params]:
    """Return the learner and float64 parameters whose gate has preferences."""
    setting = Setting(
        user_fields=USER_FIELDS,
        item_fields=ITEM_FIELDS,
        item_features=item_features(generator()),
        network_config=SMALL,
        objective="rating",
        value_range=(-2.0, 2.0),
    )
    learner = config.build(setting)
    draw = generator()
    return learner, {
        name: p.double() + 0.3 * torch.randn(p.shape, generator=draw, dtype=torch.float64)
        for name, p in learner.init_params(generator()).items()
    }


@pytest.mark.parametrize("choice", ["hard", "soft"])
def test_predictions_are_the_members_weighed(choice: Choice) -> None:
    learner, params = make(dataclasses.replace(TWO, choice=choice))
    batch = make_batch(graded=True)
    state = learner.adapt(params, batch.support)
    weight_BK = state[CHOICE]
    torch.testing.assert_close(weight_BK.sum(1), torch.ones(len(batch), dtype=torch.float64))
    if choice == "hard":
        assert set(weight_BK.flatten().tolist()) == {0.0, 1.0}
    expected_BR, expected_order_BR = torch.zeros(2, 1, dtype=torch.float64)
    for number, member in enumerate(learner.members):
        own = of_member(number, params)
        alone = member.predict(own, member.adapt(own, batch.support), batch.query)
        expected_BR = expected_BR + weight_BK[:, number, None] * alone.mean_BR
        expected_order_BR = expected_order_BR + weight_BK[:, number, None] * alone.ranked_by_BR
    found = learner.predict(params, state, batch.query)
    torch.testing.assert_close(found.mean_BR, expected_BR)
    torch.testing.assert_close(found.ranked_by_BR, expected_order_BR)
    prepared = learner.predict(params, state, learner.prepare(params, batch.query))
    torch.testing.assert_close(prepared.mean_BR, found.mean_BR)


@pytest.mark.parametrize("choice", ["hard", "soft"])
@pytest.mark.parametrize("width", [0, 4])
def test_the_gates_gradient_is_that_of_its_loss(choice: Choice, width: int) -> None:
    """Against central differences."""
    config = dataclasses.replace(TWO, choice=choice, width=width, members_learn=False)
    learner, params = make(config)
    batch = make_batch(graded=True)

    def loss_at(changed: Params) -> float:
        return learner.meta_gradient(changed, batch, generator())[1]["loss"]

    gradients, _ = learner.meta_gradient(params, batch, generator())
    assert all(name.startswith("gate") for name in gradients)
    step = 1e-6
    for name, gradient in gradients.items():
        place = int(gradient.abs().argmax())
        ends = []
        for sign in (1, -1):
            moved = params[name].clone()
            moved.view(-1)[place] += sign * step
            ends.append(loss_at({**params, name: moved}))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(gradient.flatten()[place]), rel=1e-5)


def test_members_learn_by_their_own_losses() -> None:
    learner, params = make(TWO)
    batch = make_batch(graded=True)
    gradients, _ = learner.meta_gradient(params, batch, generator())
    draw = generator()
    for number, member in enumerate(learner.members):
        alone, _ = member.meta_gradient(of_member(number, params), batch, draw)
        for name, gradient in as_member(number, alone).items():
            torch.testing.assert_close(gradients[name], gradient)


@pytest.mark.parametrize("choice", ["hard", "soft"])
def test_the_gate_learns_who_needs_which_member(choice: Choice) -> None:
    """One member says 1 of everything, the other -1; who gave high values gives them again."""
    config = SelectorConfig(
        members=(WITHOUT_STEPS, WITHOUT_STEPS), choice=choice, width=0, members_learn=False
    )
    learner, params = make(config)
    for number, said in enumerate((1.0, -1.0)):
        for name in (f"member.{number}.layer.0.{part}" for part in ("weight", "bias")):
            params[name] = torch.zeros_like(params[name])
        params[f"member.{number}.layer.0.bias"] += said
    batch = make_batch(graded=True)
    sign_B = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])

    def given(rows: Rows) -> Rows:
        return dataclasses.replace(
            rows,
            value_BR=sign_B[:, None].expand_as(rows.value_BR) * rows.mask_BR,
            statistics_BRD=torch.zeros_like(rows.statistics_BRD),
        )

    # The first user has no support: nothing tells what they need.
    telling = TaskBatch(Support(batch.support.user, given(batch.support.rows)), given(batch.query))
    for _ in range(300):
        gradients, _ = learner.meta_gradient(params, telling, generator())
        params |= {name: params[name] - 0.5 * g for name, g in gradients.items()}
    weight_BK = learner.adapt(params, telling.support)[CHOICE]
    assert (weight_BK.argmax(1)[1:] == (sign_B[1:] < 0)).all()


def test_metadata_are_numbers_of_the_known_rows_alone() -> None:
    batch = make_batch(graded=True)
    features = item_features(generator())
    found_BM = task_metadata(batch.support, features)
    assert found_BM.shape == (len(batch), len(METADATA))
    rows = batch.support.rows
    noisy = dataclasses.replace(rows, value_BR=rows.value_BR + 9.0 * ~rows.mask_BR)
    torch.testing.assert_close(
        task_metadata(Support(batch.support.user, noisy), features), found_BM
    )
    by_name = dict(zip(METADATA, found_BM.unbind(1), strict=True))
    counts_B = rows.mask_BR.sum(1)
    assert by_name["has support"].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    new_B = ((rows.item_BR == 0) & rows.mask_BR).sum(1) / (counts_B + 3)
    torch.testing.assert_close(by_name["share of items that are new"], new_B)
    torch.testing.assert_close(by_name["mean value"], rows.value_BR.sum(1) / (counts_B + 3))
    assert by_name["share of the profile that is known"].max() <= 1


def trained(task_set: TaskSet, config: SelectorConfig) -> tuple[Params, Model]:
    """Return the parameters before and the model after two epochs, with weight decay."""
    model = Model.untrained(
        ModelConfig(algorithm="selector", learner=config, network=SMALL),
        task_set,
        torch.device("cpu"),
    )
    model.params = model.learner.init_params(generator())
    before = {name: p.clone() for name, p in model.params.items()}
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        episodes=EpisodeConfig(),
        config=TrainingConfig(epochs=2, weight_decay=1.0),
        seed=0,
    )
    return before, model


def test_members_that_do_not_learn_stay_to_the_last_bit(task_set: TaskSet) -> None:
    before, model = trained(task_set, dataclasses.replace(TWO, members_learn=False))
    same = {name for name, p in before.items() if torch.equal(p, model.params[name])}
    assert same == {name for name in before if name.startswith("member.")}


def test_a_choice_is_judged_beside_each_member_and_the_oracle(task_set: TaskSet) -> None:
    _, model = trained(task_set, dataclasses.replace(TWO, choice="hard"))
    everybody = (("first", [9.0, -9.0], 0), ("second", [-9.0, 9.0], 1))
    tasks = task_set.tasks("dev")
    for _, bias, number in everybody:
        model.params["gate.weight"] = torch.zeros_like(model.params["gate.weight"])
        model.params["gate.bias"] = torch.tensor(bias)
        report = judge_choice(model, tasks)
        name = ["bayesian-linear", "maml"][number]
        assert report.shares[name] == 1.0
        assert report.chosen == pytest.approx(report.members[name], rel=1e-5)
        assert report.members[report.best_member] == min(report.members.values())
        assert report.oracle <= min(report.members.values())
        alone = members.member(model, number)
        error_N = np.abs(Scorer.of(alone).score_query(tasks) - tasks.query.value)
        by_user = np.bincount(tasks.query.task, error_N) / tasks.query.lengths
        assert report.members[name] == pytest.approx(by_user.mean(), rel=1e-5)


def test_one_task_has_no_interval(task_set: TaskSet) -> None:
    _, model = trained(task_set, TWO)
    plain = judge_choice(model, task_set.tasks("dev").take(np.array([0]))).to_dict()
    assert plain["chosen_less_best"]["ci_low"] is None


def test_members_of_one_algorithm_are_told_apart(task_set: TaskSet) -> None:
    _, model = trained(task_set, SelectorConfig(members=(WITHOUT_STEPS, WITHOUT_STEPS)))
    report = judge_choice(model, task_set.tasks("dev"))
    assert list(report.members) == ["maml-1", "maml-2"]


def test_the_configuration_survives_json_and_reads_order_with_its_members() -> None:
    config = ModelConfig(algorithm="selector", learner=TWO)
    assert parse(ModelConfig, to_dict(config)) == config
    assert not TWO.reads_in_order
    assert SelectorConfig(members=(Member(algorithm="snail"), *TWO.members)).reads_in_order


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(ValueError, match="another learner"):
        Member(algorithm="selector")
    with pytest.raises(ValueError, match="2 or more"):
        SelectorConfig(members=TWO.members[:1])
