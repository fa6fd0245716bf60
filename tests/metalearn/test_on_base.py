"""MAML's layers on a base learner: begun without output, exact in their gradient, and kept only
where the development users gain."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import WeightedRidgeConfig
from recmeta.metalearn.algorithms.optimisation_based.maml import MAMLConfig
from recmeta.metalearn.inner_loop.on_base import OnBase, RowsOfBoth, zeroed
from recmeta.metalearn.inner_loop.steps import RATES
from recmeta.metalearn.learner import HasPosterior, Params, with_derived
from recmeta.metalearn.member_config import Member, as_member, of_member, without_members
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import Epoch, TrainingConfig
from recmeta.metalearn.tensors.batch import Support
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.conformance import LearnerConformance, Subject
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import fit_whole
from recmeta.training.start import at_start, best_of
from recmeta.workspace import Folder, MemoryFolder

SMALL = PreferenceConfig(embedding_dim=4, hidden_dims=(8,))
CPU = torch.device("cpu")
CLOSED = MetaTrainConfig(
    model=ModelConfig(
        algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=3), network=SMALL
    ),
    training=TrainingConfig(epochs=3, learning_rate=1e-2, weight_decay=0.0),
)
ON_CLOSED = MetaTrainConfig(
    model=ModelConfig(network=SMALL, learner=MAMLConfig(num_steps=2, support_prior=10.0)),
    training=TrainingConfig(epochs=2, learning_rate=1e-3),
    start="bayesian-factors",
    members=(CLOSED,),
)


class TestOnBayesianLinear(LearnerConformance):
    base = Member(algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=3))
    learner = MAMLConfig(num_steps=2, support_prior=3.0)
    fixed = ("member.",)

    def make_model(self, task_set: TaskSet) -> Model:
        learner = dataclasses.replace(self.learner, base=self.base)
        return Model.untrained(ModelConfig(network=SMALL, learner=learner), task_set, CPU)


class TestOwnRatesOnBayesianLinear(TestOnBayesianLinear):
    learner = MAMLConfig(num_steps=2, rates_per="parameter", adapt_layers="last")


class TestOnWeightedRidge(TestOnBayesianLinear):
    objective = "implicit"
    base = Member(algorithm="weighted-ridge", learner=WeightedRidgeConfig(num_factors=3))


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=120, num_items=40, rows_per_user=(8, 20)), seed=2)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(scope="module")
def subject(task_set: TaskSet) -> Subject:
    model = at_start(ON_CLOSED, task_set, CPU).model
    return Subject(model, task_set, task_set.tasks("dev"))


def moved(params: Params) -> Params:
    """Return parameters whose layers have an output."""
    generator = torch.Generator().manual_seed(4)
    noise = {
        n: 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for n, p in without_members(params).items()
    }
    return {n: p.double() + noise.get(n, 0.0) for n, p in params.items()}


def test_it_begins_as_its_base_to_the_bit(subject: Subject) -> None:
    model, batch = subject.model, subject.batch()
    learner, params = model.learner, with_derived(model.learner, model.params)
    assert isinstance(learner, OnBase)
    assert isinstance(learner, HasPosterior)
    base, own = learner.base, of_member(0, params)
    state, expected = learner.adapt(params, batch.support), base.adapt(own, batch.support)
    assert state.keys() == expected.keys()
    found, wanted = (
        learner.predict(params, state, batch.query),
        base.predict(own, expected, batch.query),
    )
    assert torch.equal(found.mean_BR, wanted.mean_BR)
    assert torch.equal(found.ranked_by_BR, wanted.ranked_by_BR)
    assert found.spread_BR is not None
    assert wanted.spread_BR is not None
    assert torch.equal(found.spread_BR, wanted.spread_BR)
    without = learner.ranked_without(params, batch.support, batch.query)
    assert without is not None
    assert not isinstance(
        learner.prepare(params, model.catalogue.item_rows(np.arange(40))), RowsOfBoth
    )


def test_without_output_the_steps_move_nothing(subject: Subject) -> None:
    """The layers themselves, asked beside what skips them, say 0 before and after adaptation."""
    model, batch = subject.model, subject.batch()
    assert isinstance(model.learner, OnBase)
    layers, own = model.learner.layers, without_members(model.params)
    found = layers.predict(own, layers.adapt(own, batch.support), batch.query)
    assert not found.mean_BR.any()
    again = zeroed(moved(own))
    assert not layers.predict(again, layers.adapt(again, batch.support), batch.query).mean_BR.any()


def test_a_catalogue_is_ranked_by_the_sum_of_both(subject: Subject) -> None:
    model, batch = subject.model, subject.batch()
    learner = model.learner
    assert isinstance(learner, OnBase)
    params = {n: p.float() for n, p in moved(model.params).items()}
    items = model.catalogue.item_rows(np.arange(40))
    state = learner.adapt(params, batch.support)
    wanted = learner.predict(params, state, items).ranked_by_BR
    prepared = learner.prepare(params, items)
    found = learner.ranked_by(params, learner.settle(params, state), prepared)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    own = of_member(0, params)
    of_base = learner.base.predict(own, learner.base.adapt(own, batch.support), items)
    assert (wanted - of_base.ranked_by_BR).abs().max() > 1e-2


def test_reasons_are_what_adapting_without_each_row_gives(subject: Subject) -> None:
    model, batch = subject.model, subject.batch()
    learner, params = model.learner, moved(subject.model.params)
    assert isinstance(learner, OnBase)
    rows = batch.support.rows
    found = learner.ranked_without(params, batch.support, batch.query)
    assert found is not None
    size = rows.mask_BR.shape[1]
    assert found.shape == (len(batch), 1 + size, batch.query.mask_BR.shape[1])
    for variant in range(1 + size):
        mask_BS = rows.mask_BR.clone()
        if variant:
            mask_BS[:, variant - 1] = False
        support = Support(batch.support.user, dataclasses.replace(rows, mask_BR=mask_BS))
        state = learner.adapt(params, support)
        wanted = learner.predict(params, state, batch.query).ranked_by_BR
        there = rows.mask_BR[:, variant - 1] if variant else torch.ones(len(batch), dtype=bool)
        torch.testing.assert_close(
            found[there, variant].double(), wanted[there], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("at", ["start", "moved"])
def test_the_gradient_is_that_of_the_query_loss_through_the_steps(
    subject: Subject, at: str
) -> None:
    """By central differences of the loss that `adapt` and `predict` give, in float64."""
    model, batch = subject.model, subject.batch()
    params = {n: p.double() for n, p in model.params.items()}
    if at == "moved":
        params = moved(params)

    def loss_at(some: Params) -> float:
        state = model.learner.adapt(some, batch.support)
        error_BR = model.learner.predict(some, state, batch.query).mean_BR - batch.query.value_BR
        mask_BR = batch.query.mask_BR
        return float(((error_BR.abs() * mask_BR).sum(1) / mask_BR.sum(1)).mean())

    gradients, metrics = model.learner.meta_gradient(params, batch, torch.Generator())
    assert metrics["loss"] == pytest.approx(loss_at(params), rel=1e-9)
    assert not any(name.startswith("member.") for name in gradients)
    assert gradients[RATES].any(), "rates of 0 learn, too"
    generator = torch.Generator().manual_seed(8)
    for names in ([RATES], [n for n in gradients if n.startswith("layer.")], list(gradients)):
        ways = {
            n: torch.randn(params[n].shape, generator=generator, dtype=torch.float64) for n in names
        }
        size = 1e-6
        ahead, behind = (
            loss_at(params | {n: params[n] + sign * size * w for n, w in ways.items()})
            for sign in (1, -1)
        )
        expected = sum(float((gradients[n].to_dense() * w).sum()) for n, w in ways.items())
        assert (ahead - behind) / (2 * size) == pytest.approx(expected, rel=2e-4, abs=1e-8)


def fitted(config: MetaTrainConfig, task_set: TaskSet) -> Model:
    begun = at_start(config, task_set, CPU)
    return fit_whole(config, begun, task_set, MemoryFolder(), lambda _: None).model


def test_layers_that_gain_nothing_leave_the_base_as_it_is_alone(task_set: TaskSet) -> None:
    """Trained at a rate that ruins them."""
    wild = dataclasses.replace(
        ON_CLOSED, training=TrainingConfig(epochs=2, learning_rate=0.3, clip_norm=100.0)
    )
    found, alone = fitted(wild, task_set), fitted(CLOSED, task_set)
    own = of_member(0, found.params)
    assert own.keys() == alone.params.keys()
    assert all(torch.equal(own[name], p) for name, p in alone.params.items())
    assert not found.params[RATES].any()
    assert (found.levels is None) == (alone.levels is None)


def test_a_trained_start_is_beaten_by_more_than_a_standard_error_only(task_set: TaskSet) -> None:
    begun = at_start(ON_CLOSED, task_set, CPU)
    model, development = begun.model, task_set.tasks("dev")
    start = dict(model.params)
    generator = torch.Generator().manual_seed(0)
    ahead = []
    for scale in (1e-5, 0.3):
        model.params = {
            n: p + scale * torch.randn(p.shape, generator=generator) * n.startswith("layer.1")
            for n, p in start.items()
        }
        claimed = Epoch(1, 0.0, -1.0)  # as if it were far better
        ahead.append(best_of(model, start, [claimed], development, ON_CLOSED.training).number)
    assert ahead == [0, 0], "neither is better, whatever the history says"


def test_a_refit_trains_the_base_again_with_everybody(tmp_path: Path) -> None:
    log = generate(
        SyntheticConfig(num_users=120, num_items=60, rows_per_user=(5, 9), objective="implicit"),
        seed=3,
    )
    shares = ShareConfig(test_share=0.2, dev_share=0.2)
    implicit = write_task_set(log, Folder.at(tmp_path), shares)
    ridge = MetaTrainConfig(
        model=ModelConfig(algorithm="weighted-ridge", num_negatives=0),
        training=TrainingConfig(epochs=4, patience=2, weight_decay=0.0, learning_rate=1e-3),
        refit=True,
    )
    config = MetaTrainConfig(
        model=ModelConfig(network=SMALL, learner=MAMLConfig()),
        training=TrainingConfig(epochs=0),
        refit=True,
        members=(ridge,),
    )
    alone, found = fitted(ridge, implicit), fitted(config, implicit)
    own = of_member(0, found.params)
    assert own.keys() == alone.params.keys()
    assert all(torch.equal(own[name], p) for name, p in alone.params.items())
    users = implicit.tasks("test")
    assert found.config.learner.begins_trained
    assert len(users)


def test_training_goes_on_from_an_earlier_model_and_its_base(task_set: TaskSet) -> None:
    earlier = fitted(ON_CLOSED, task_set)
    again = at_start(ON_CLOSED, task_set, CPU, earlier).model
    assert again.params.keys() == earlier.params.keys()
    for name, p in earlier.params.items():
        torch.testing.assert_close(again.params[name], p, rtol=1e-6, atol=1e-7)


def test_a_closed_form_of_before_becomes_the_base(task_set: TaskSet) -> None:
    earlier = fitted(CLOSED, task_set)
    again = at_start(ON_CLOSED, task_set, CPU, earlier).model
    own = of_member(0, again.params)
    assert own.keys() == earlier.params.keys()
    for name, p in earlier.params.items():
        torch.testing.assert_close(own[name], p, rtol=1e-6, atol=1e-7)
    assert not again.params[RATES].any()


def test_content_comes_from_a_closed_form_or_from_layers_on_one(task_set: TaskSet) -> None:
    longer = dataclasses.replace(  # so that it leaves its start
        CLOSED, training=TrainingConfig(epochs=10, learning_rate=3e-3, weight_decay=0.0)
    )
    closed = fitted(longer, task_set)
    whole = fitted(dataclasses.replace(ON_CLOSED, members=(longer,)), task_set)
    held = dataclasses.replace(ON_CLOSED, content_from="somewhere", freeze_content=True)
    fresh = at_start(ON_CLOSED, task_set, CPU).model.params
    for source in (closed, whole):
        begun = at_start(held, task_set, CPU, source=source)
        start = {n: p.clone() for n, p in begun.model.params.items()}
        rows = begun.members[0].held
        names = [*as_member(0, dict.fromkeys(rows))]
        assert any(not torch.equal(start[own], fresh[own]) for own in names), "it is the source's"
        done = fit_whole(held, begun, task_set, MemoryFolder(), lambda _: None).model
        for name, is_held in rows.items():
            (own,) = as_member(0, {name: None})
            assert torch.equal(done.params[own][is_held], start[own][is_held])


def test_rates_that_are_not_learned_are_refused() -> None:
    with pytest.raises(ValueError, match="learn_rates is false"):
        MAMLConfig(learn_rates=False, base=Member(algorithm="bayesian-linear"))


def test_without_members_there_is_no_base() -> None:
    assert isinstance(ON_CLOSED.model.learner, MAMLConfig)
    assert ON_CLOSED.model.learner.base is not None
    plain = dataclasses.replace(ON_CLOSED, members=())
    assert isinstance(plain.model.learner, MAMLConfig)
    assert plain.model.learner.base is None
