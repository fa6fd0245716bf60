"""MAMO's memory: its gradient against a loop over users, and what its read weights mean."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from learners import outcome
from maml_oracle import Oracle
from maml_tasks import ITEM_FIELDS, USER_FIELDS, item_features, make_batch
from torch import Tensor

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.optimisation_based.mamo import (
    MAMO,
    MAMOConfig,
    MemoryLoop,
    read_weights,
)
from recmeta.metalearn.learner import Params
from recmeta.metalearn.learner_config import Setting
from recmeta.metalearn.member_config import Member
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.tensors.batch import TaskBatch
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.testing.conformance import LearnerConformance
from recmeta.testing.rounding import assert_equal_but_for_rounding, tolerances
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

DEEP = PreferenceConfig(embedding_dim=3, hidden_dims=(6, 5), wide=True)
ROUNDINGS = 500
"""As for MAML: sums over a dozen rows, twenty features and three slots, in three layers."""


class OracleWithMemory(Oracle):
    """The loop over users, whose weights begin with what the memory adds, slot by slot."""

    def first_weights(self, leaves: Params, batch: TaskBatch, b: int) -> Params:
        parts = [self.embed(leaves, "user", f, batch.support.user, b) for f in self.user_fields]
        profile = torch.cat(parts)
        strengths = []
        for slot in leaves["memory.profiles"]:
            lengths = (profile @ profile + 1e-8).sqrt() * (slot @ slot + 1e-8).sqrt()
            strengths.append((leaves["memory.sharpness"] * (profile @ slot) / lengths).exp())
        weights = super().first_weights(leaves, batch, b)
        for name in list(weights):
            shifts: list[Tensor] = list(leaves.get(f"memory.shifts.{name}", torch.zeros(0)))
            for strength, shift in zip(strengths, shifts, strict=False):
                weights[name] = weights[name] + strength / torch.stack(strengths).sum() * shift
        return weights


def make(config: MAMOConfig, graded: bool = True) -> tuple[MAMO, Params]:
    """Return the learner and float64 parameters, off the special points of fresh ones."""
    generator = torch.Generator().manual_seed(11)
    setting = Setting(
        user_fields=USER_FIELDS,
        item_fields=ITEM_FIELDS,
        item_features=item_features(generator),
        network_config=DEEP,
        objective="rating" if graded else "implicit",
        value_range=(-2.0, 2.0),
    )
    learner = config.build(setting)
    assert isinstance(learner, MAMO)
    return learner, {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in learner.init_params(generator).items()
    }


@pytest.mark.parametrize(
    ("config", "graded"),
    [
        (MAMOConfig(num_slots=3, num_steps=2, adapt_layers="all"), True),
        (MAMOConfig(num_slots=3, num_steps=1, adapt_layers="last"), False),
        (MAMOConfig(num_slots=2, num_steps=2, second_order=False, learn_rates=False), True),
    ],
    ids=["all layers", "last layer, implicit", "first order"],
)
def test_the_gradient_is_a_loops_over_users(config: MAMOConfig, graded: bool) -> None:
    learner, params = make(config, graded)
    oracle = OracleWithMemory(
        config=config,
        inner="squared" if graded else "bce",
        outer="absolute" if graded else "bce",
        user_fields=USER_FIELDS,
        item_fields=ITEM_FIELDS,
        item_features=learner.item_features,
        num_layers=learner.network.num_layers,
        wide=True,
        starts_from_item_mean=False,
    )
    batch = make_batch(graded)
    expected, loss = oracle.meta_gradient(params, batch)
    expected["loss"] = torch.tensor(loss, dtype=torch.float64)
    found = outcome(learner, params, batch)
    allowed = tolerances(lambda p: outcome(learner, p, batch), params, roundings=ROUNDINGS)
    assert_equal_but_for_rounding(found, expected, allowed)
    assert all(found[name].any() for name in found if name.startswith("memory."))


@torch.no_grad()
def test_reading_alike_begins_alike() -> None:
    """With no sharpness every slot is read alike: the start is that of MAML with the mean shift."""
    learner, params = make(MAMOConfig(num_slots=3, num_steps=2))
    params["memory.sharpness"] = torch.zeros((), dtype=torch.float64)
    batch = make_batch(graded=True)
    user_BF = learner.network.embed_users(params, batch.support.user, len(batch))
    torch.testing.assert_close(read_weights(params, user_BF), torch.full((5, 3), 1 / 3).double())
    moved = {
        name: p + params[f"memory.shifts.{name}"].mean(0) if name.startswith("layer.") else p
        for name, p in params.items()
    }
    for name in params:
        if name.startswith("memory.shifts."):
            moved[name] = torch.zeros_like(params[name])

    def predicted(params: Params) -> Tensor:
        state = learner.adapt(params, batch.support)
        return learner.predict(params, state, batch.query).mean_BR

    torch.testing.assert_close(predicted(moved), predicted(params))


def test_the_first_inner_gradient_is_taken_at_the_users_own_start() -> None:
    learner, params = make(MAMOConfig(num_slots=3))
    batch = make_batch(graded=True)
    norm_B = learner.support_gradient_norm(params, batch.support)
    user_BF = learner.network.embed_users(params, batch.support.user, len(batch))
    assert isinstance(learner.loop, MemoryLoop)
    start = learner.loop.start(params, user_BF)
    for b in range(1, len(batch)):
        own = {name: p[b].detach().requires_grad_() for name, p in start.items()}
        rows = batch.support.rows
        output_S = learner.network.forward(
            params | own,
            user_BF[b],
            learner._embed(params, rows).tables[0][b],
            rows.statistics_BRD[b].double(),
        )
        loss = (output_S - rows.value_BR[b])[rows.mask_BR[b]].square().mean()
        found = torch.autograd.grad(loss, list(own.values()))
        assert float(norm_B[b]) == pytest.approx(float(sum(g.square().sum() for g in found)) ** 0.5)


def test_a_rescaled_model_predicts_rescaled_values(task_set: TaskSet) -> None:
    config = MAMOConfig(num_steps=0, num_slots=2)
    chosen = ModelConfig(algorithm="mamo", network=DEEP, learner=config)
    model = Model.untrained(chosen, task_set, torch.device("cpu"))
    generator = torch.Generator().manual_seed(3)
    params = {
        name: p.double() + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in model.learner.init_params(generator).items()
    }
    batch = model.batch(task_set.tasks("test"))

    def predicted(params: Params) -> Tensor:
        state = model.learner.adapt(params, batch.support)
        return model.learner.predict(params, state, batch.query).mean_BR

    scaled = config.rescaled(model, params, 2.5, -0.75)
    torch.testing.assert_close(predicted(scaled), 2.5 * predicted(params) - 0.75)


@dataclasses.dataclass(frozen=True)
class Profiled:
    """A model trained where attributes tell all of the users' tastes."""

    model: Model
    fresh: Params
    test: Tasks
    taste_Uw: Float64Array
    """Of the test users, which nobody knows."""


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    log = generate(SyntheticConfig(num_users=400, num_items=60, profile_share=1.0), seed=4)
    task_set = write_task_set(log, Folder.at(tmp_path_factory.mktemp("profiled")))
    # One layer of joined features has no product of a user's with an item's: what a group prefers
    # is in the memory or nowhere.
    network = PreferenceConfig(embedding_dim=4, hidden_dims=())
    config = ModelConfig(algorithm="mamo", network=network, learner=MAMOConfig(num_steps=1))
    model = Model.untrained(config, task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    fresh = {name: p.clone() for name, p in model.params.items()}
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        episodes=EpisodeConfig(batch_size=16),
        config=TrainingConfig(epochs=8, learning_rate=2e-2),
        seed=0,
    )
    test = task_set.tasks("test")
    place = {name: n for n, name in enumerate(log.users["user_id"].to_pylist())}
    user_U = [place[name] for name in test.profile["user_id"].to_pylist()]
    return Profiled(model, fresh, test, log.truth.prior_mean_Uw[user_U])


@torch.no_grad()
def test_users_who_share_a_slot_share_tastes(profiled: Profiled) -> None:
    """Σ_k a_uk a_vk of two users: larger in a group than across groups, and the larger the nearer
    their tastes are, which fresh read weights know little of."""
    model, batch = profiled.model, profiled.model.batch(profiled.test)

    def shared(params: Params) -> Float64Array:
        user_BF = model.network.embed_users(params, batch.support.user, len(batch))
        read_BK = read_weights(params, user_BF)
        return (read_BK @ read_BK.T).double().numpy()

    shared_BB = shared(model.params)
    group_B = np.array(profiled.test.profile["group"].to_pylist())
    others_BB = ~np.eye(len(group_B), dtype=bool)
    same_BB = (group_B[:, None] == group_B) & others_BB
    assert shared_BB[same_BB].mean() > 1.2 * shared_BB[~same_BB & others_BB].mean()
    taste_Bw = profiled.taste_Uw
    distance_BB = np.linalg.norm(taste_Bw[:, None] - taste_Bw, axis=-1)

    def agreement(shared_BB: Float64Array) -> float:
        return float(np.corrcoef(shared_BB[others_BB], -distance_BB[others_BB])[0, 1])

    assert agreement(shared_BB) > 0.6
    assert agreement(shared_BB) > agreement(shared(profiled.fresh)) + 0.2


@torch.no_grad()
def test_the_memory_is_what_is_known_of_someone_new(profiled: Profiled) -> None:
    """Of users without support: the error is larger where everybody reads the mean slot."""
    model, batch = profiled.model, profiled.model.batch(profiled.test.with_shots(0))

    def error(params: Params) -> float:
        state = model.learner.adapt(params, batch.support)
        mean_BR = model.learner.predict(params, state, batch.query).mean_BR
        return float((mean_BR - batch.query.value_BR)[batch.query.mask_BR].abs().mean())

    alike = model.params | {"memory.sharpness": torch.zeros(())}
    assert error(model.params) < 0.8 * error(alike)


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
class TestMAMOOnABase(LearnerConformance):
    fixed = ("member.",)

    def make_model(self, task_set: TaskSet) -> Model:
        base = Member(algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=3))
        learner = MAMOConfig(num_steps=1, base=base)
        network = PreferenceConfig(embedding_dim=4, hidden_dims=(8,))
        config = ModelConfig(algorithm="mamo", network=network, learner=learner)
        return Model.untrained(config, task_set, torch.device("cpu"))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="num_slots is 0"):
        MAMOConfig(num_slots=0)
    with pytest.raises(ValueError, match="sharpness is -1"):
        dataclasses.replace(MAMOConfig(), sharpness=-1.0)
