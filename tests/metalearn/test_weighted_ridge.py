"""Weighted ridge regression folds users in as the factorisation does, and learns from others' rows.

Legend: B users, I items, F factors.
"""

import dataclasses

import numpy as np
import pytest
import torch

from recmeta.errors import UserError
from recmeta.metalearn.algorithms.closed_form import weighted_ridge
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import (
    WeightedRidgeConfig,
    _of_like_length,
)
from recmeta.metalearn.factors.weighted_als import (
    WeightedALSConfig,
    factorise_weighted,
    fold_in,
    left_out_factors,
)
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.user_prior import PRIOR_LOG_PRECISION
from recmeta.metalearn.outer_loop.catalogue_ndcg import ndcg
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.starts.beginning import Start
from recmeta.metalearn.starts.weighted_ridge_start import (
    FACTORS,
    IDENTITY,
    LOG_CONFIDENCE,
    NUM_FOLDS,
    start_from_factorisation,
)
from recmeta.metalearn.tensors.batch import Rows
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks.task_set import Ragged, TaskSet
from recmeta.testing.conformance import LearnerConformance
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder

ALS = WeightedALSConfig(num_factors=6, regularisation=2.0, confidence=5.0, sweeps=4)

LENGTH_B1 = torch.tensor([[9], [1], [8], [0], [2]])


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=300, num_items=60, objective="implicit"), seed=1)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))


@pytest.fixture(scope="module")
def rows(task_set: TaskSet) -> Ragged:
    train = task_set.tasks("train")
    return train.rows


def make_model(task_set: TaskSet, **config: int) -> Model:
    learner = WeightedRidgeConfig(**config)
    return Model.untrained(
        ModelConfig(algorithm="weighted-ridge", learner=learner), task_set, torch.device("cpu")
    )


class TestWeightedRidge(LearnerConformance):
    objective = "implicit"

    def make_model(self, task_set: TaskSet) -> Model:
        return make_model(task_set, num_factors=8)


class TestOnASampleOfTheCatalogue(TestWeightedRidge):
    def make_model(self, task_set: TaskSet) -> Model:
        return make_model(task_set, num_factors=8, catalogue_sample=20)


class TestByContentAlone(TestWeightedRidge):
    training = TrainingConfig(epochs=12, learning_rate=2e-2)

    def make_model(self, task_set: TaskSet) -> Model:
        config = ModelConfig(algorithm="weighted-ridge", features=FeatureConfig(use_item_id=False))
        return Model.untrained(config, task_set, torch.device("cpu"))


def test_users_in_small_groups_are_those_in_one(
    task_set: TaskSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are put into groups of like lengths, of which none has too many places."""
    model = make_model(task_set, num_factors=4)
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    tasks = task_set.tasks("test")
    scorer = Scorer.of(model)
    whole = scorer.adapt(tasks)["weights"]
    rows = Rows(*(torch.zeros(5, 9) for _ in range(3)), torch.arange(9) < LENGTH_B1)
    monkeypatch.setattr(weighted_ridge, "ROWS_AT_ONCE", 8)
    groups = [users_b.tolist() for users_b in _of_like_length(rows, torch.arange(5))]
    assert groups == [[3, 1, 4], [2], [0]], "the last two have as many as are allowed, or more"
    assert torch.allclose(scorer.adapt(tasks)["weights"], whole, atol=1e-5)


def test_ratings_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    log = generate(SyntheticConfig(num_users=30, num_items=50), seed=1)
    ratings = write_task_set(log, Folder.at(tmp_path_factory.mktemp("ratings")))
    with pytest.raises(UserError, match="bayesian-linear"):
        make_model(ratings)


# The factorisation -------------------------------------------------------------------------------


def test_folding_in_solves_the_normal_equations(rows: Ragged) -> None:
    item_IF = factorise_weighted(rows, 60, ALS, seed=0).double()
    found_UF = fold_in(rows, item_IF, ALS, regularisation=3.0)
    for user in (0, 7, int(rows.lengths.argmax())):
        weight_I = torch.ones(60, dtype=torch.float64)
        met = rows.item[rows.task == user]
        weight_I[met] = ALS.confidence
        system = item_IF.T @ (weight_I[:, None] * item_IF) + 3.0 * torch.eye(6)
        moment = ALS.confidence * item_IF[met].sum(0)
        torch.testing.assert_close(found_UF[user], torch.linalg.solve(system, moment))


def test_each_sweep_lowers_the_loss(rows: Ragged) -> None:
    is_met_UI = torch.zeros((len(rows), 60))
    is_met_UI[rows.task, rows.item] = 1.0

    def loss(sweeps: int) -> float:
        config = WeightedALSConfig(num_factors=6, regularisation=2.0, confidence=5.0, sweeps=sweeps)
        item_IF = factorise_weighted(rows, 60, config, seed=0)
        user_UF = fold_in(rows, item_IF, config, config.regularisation)
        weight_UI = 1 + (config.confidence - 1) * is_met_UI
        wrong = (weight_UI * (is_met_UI - user_UF @ item_IF.T).square()).sum()
        return float(wrong + 2.0 * (item_IF.square().sum() + user_UF.square().sum()))

    losses = [loss(sweeps) for sweeps in (1, 2, 4, 8)]
    assert losses == sorted(losses, reverse=True)


def test_a_fold_does_not_see_its_users(rows: Ragged) -> None:
    item_IF = factorise_weighted(rows, 60, ALS, seed=0)
    other = rows.item.copy()
    changed = np.flatnonzero(rows.task % 3 == 1)
    other[changed] = (other[changed] + 7) % 60
    before_KIF = left_out_factors(rows, item_IF, ALS, num_folds=3, seed=0)
    moved = Ragged(rows.offsets, other, rows.value, rows.counted)
    after_KIF = left_out_factors(moved, item_IF, ALS, num_folds=3, seed=0)
    torch.testing.assert_close(after_KIF[1], before_KIF[1])
    assert not torch.allclose(after_KIF[0], before_KIF[0])


# The start ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(task_set: TaskSet, rows: Ragged) -> tuple[Model, Start]:
    model = make_model(task_set)
    params = model.learner.init_params(torch.Generator().manual_seed(0))
    item_IF = factorise_weighted(rows, 60, ALS, seed=0)
    start = start_from_factorisation(model, params, rows, item_IF, ALS, seed=0)
    model.params = start.params
    return model, start


@pytest.fixture(scope="module")
def started(begun: tuple[Model, Start]) -> Model:
    return begun[0]


def test_the_start_orders_items_as_folding_in_does(
    task_set: TaskSet, rows: Ragged, started: Model
) -> None:
    tasks = task_set.tasks("test")
    # Without a prior of the user's own: the factorisation has none.
    params = {**started.params, "prior.mean": torch.zeros(6)}
    items = started.catalogue.item_rows(np.arange(60))
    state = started.learner.adapt(params, Scorer.of(started).support(tasks))
    scores_BI = started.learner.predict(params, state, items).mean_BR
    item_IF = factorise_weighted(rows, 60, ALS, seed=0)
    known_I = started.catalogue.item_rows(np.arange(60)).item_BR[0]
    expected_BI = fold_in(tasks.support, item_IF, ALS, ALS.regularisation) @ item_IF.T
    codes_I = started.catalogue.features["item_id"][known_I]
    torch.testing.assert_close(
        scores_BI[:, codes_I > 0], expected_BI[:, codes_I > 0], rtol=1e-3, atol=1e-4
    )


def test_without_support_everybody_gets_what_all_take(task_set: TaskSet, started: Model) -> None:
    tasks = task_set.tasks("test").with_shots(0)
    assert ndcg(started, started.params, tasks, 60).mean() > 0.1


def test_training_reads_vectors_without_the_user(
    task_set: TaskSet, begun: tuple[Model, Start]
) -> None:
    started, start = begun
    learner = started.learner
    assert start.left_out_KIF is not None
    assert len(start.left_out_KIF) == NUM_FOLDS
    tasks = task_set.tasks("train").take(np.arange(5))
    generator = torch.Generator().manual_seed(0)
    everybody = started.batch(tasks)
    own = dataclasses.replace(
        started.batch(tasks, place_B=torch.arange(5)), left_out_KIF=start.left_out_KIF
    )
    losses = [
        learner.meta_gradient(started.params, batch, generator)[1]["loss"]
        for batch in (everybody, own)
    ]
    assert losses[1] > losses[0]  # what had the answers in it predicts them better
    gradients, _ = learner.meta_gradient(started.params, own, generator)
    assert not gradients[FACTORS].any()
    for name in (IDENTITY, LOG_CONFIDENCE, PRIOR_LOG_PRECISION):
        assert gradients[name].any(), name
