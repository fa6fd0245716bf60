"""Once the development users have chosen, a model of implicit feedback learns from them, too."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from recmeta.errors import UserError
from recmeta.evaluation.baselines.factors.weighted_als import WeightedALS, tune_weighted_als
from recmeta.metalearn.algorithms.closed_form.weighted_ridge import FACTORS
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.outer_loop.trainer import Epoch, TrainingConfig
from recmeta.metalearn.starts.pretraining import known_items
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.training import start
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import Trained, fit, refit
from recmeta.training.start import Begun, at_start
from recmeta.workspace import Folder

CONFIG = MetaTrainConfig(
    model=ModelConfig(algorithm="weighted-ridge", num_negatives=0),
    training=TrainingConfig(epochs=4, patience=2, weight_decay=0.0, learning_rate=1e-3),
    refit=True,
)
LOG = generate(
    SyntheticConfig(num_users=120, num_items=60, rows_per_user=(5, 9), objective="implicit"), seed=3
)
SHARES = ShareConfig(test_share=0.2, dev_share=0.2)


class Killed(Exception):
    """As if the process had ended."""


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    return write_task_set(LOG, Folder.at(tmp_path_factory.mktemp("tasks")), SHARES)


def trained(config: MetaTrainConfig, task_set: TaskSet, folder: Path) -> tuple[Model, Model, Epoch]:
    """Return the model of the training users, that of all, and the epoch that was best."""
    begun = at_start(config, task_set, torch.device("cpu"))
    model = begun.model
    found = fit(config, begun, task_set, Folder.at(folder), lambda _: None)
    again = refit(config, begun, found, task_set, Folder.at(folder), lambda _: None)
    return model, again, found.best


def codes(model: Model) -> list[int]:
    """Return the items that have embeddings of their own."""
    known = known_items(model)
    assert known is not None
    return [int(item) for item in known]


def assert_same_bits(one: Model, other: Model) -> None:
    assert one.params.keys() == other.params.keys()
    for name, p in one.params.items():
        assert torch.equal(p, other.params[name]), name


def test_joined_has_all_users_to_train_on(task_set: TaskSet) -> None:
    joined = task_set.joined()
    users = {s: task_set.tasks(s).user_id for s in ("train", "dev", "test")}
    assert min(len(ids) for ids in users.values()) > 0
    assert joined.tasks("train").user_id == users["train"] + users["dev"]
    assert joined.tasks("dev").user_id == []
    assert joined.tasks("test").user_id == users["test"]
    assert joined.spec.num_tasks["train"] == len(joined.tasks("train"))
    assert joined.spec.num_tasks["dev"] == 0
    assert task_set.tasks("dev").user_id == users["dev"]


def test_all_are_learned_from_as_if_nobody_had_been_held_out(
    task_set: TaskSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(CONFIG, task_set, tmp_path / "one")[0]
    best = Epoch(number=2, train_loss=0.0, dev_loss=0.0)
    found = refit(
        CONFIG,
        Begun(first),
        Trained([], best, ()),
        task_set,
        Folder.at(tmp_path / "again"),
        lambda _: None,
    )
    assert first.params[FACTORS].shape != found.params[FACTORS].shape
    chosen = tune_weighted_als(
        task_set.tasks("train"), task_set.tasks("dev"), task_set.spec.num_items, CONFIG.seed
    )
    everybody = task_set.joined()
    factors = WeightedALS.fit(
        everybody.tasks("train"), task_set.spec.num_items, chosen.config, CONFIG.seed
    )
    monkeypatch.setattr(start, "tune_weighted_als", lambda *_: factors)
    training = dataclasses.replace(CONFIG.training, epochs=best.number)
    alone = dataclasses.replace(CONFIG, training=training, refit=False)
    expected = at_start(alone, everybody, torch.device("cpu"))
    fit(alone, expected, everybody, Folder.at(tmp_path / "two"), lambda _: None)
    assert_same_bits(found, expected.model)


def test_items_that_only_development_users_met_are_known(task_set: TaskSet, tmp_path: Path) -> None:
    first, found, _ = trained(CONFIG, task_set, tmp_path)
    dev = task_set.tasks("dev")
    met = np.unique(np.concatenate([dev.support.item, dev.query.item]))
    train = task_set.tasks("train")
    new = np.setdiff1d(met, np.concatenate([train.support.item, train.query.item]))
    assert len(new)
    known_first, known = (set(codes(model)) for model in (first, found))
    assert not known_first & set(new.tolist())
    assert set(new.tolist()) <= known


def test_a_killed_refit_goes_on_to_the_same_bits(task_set: TaskSet, tmp_path: Path) -> None:
    first = at_start(CONFIG, task_set, torch.device("cpu"))
    told: list[int] = []

    def run(folder: Path, killed_in: int | None = None) -> Model:
        def on_epoch(epoch: Epoch) -> None:
            told.append(epoch.number)
            if epoch.number == killed_in:
                raise Killed

        best = Epoch(number=3, train_loss=0.0, dev_loss=0.0)
        return refit(CONFIG, first, Trained([], best, ()), task_set, Folder.at(folder), on_epoch)

    straight = run(tmp_path / "straight")
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_in=2)
    resumed = run(tmp_path / "killed")
    assert told == [1, 2, 3, 1, 2, 1, 2, 3]
    assert_same_bits(straight, resumed)


def test_a_start_that_no_epoch_beats_is_kept(task_set: TaskSet, tmp_path: Path) -> None:
    ruinous = dataclasses.replace(CONFIG.training, learning_rate=0.3, epochs=2)
    config = dataclasses.replace(CONFIG, training=ruinous)
    begun = at_start(config, task_set, torch.device("cpu"))
    expected = {name: p.clone() for name, p in begun.model.params.items()}
    found = fit(config, begun, task_set, Folder.at(tmp_path), lambda _: None)
    assert found.best.number == 0
    assert found.best.dev_loss < min(epoch.dev_loss for epoch in found.history)
    assert all(torch.equal(p, expected[name]) for name, p in begun.model.params.items())
    assert begun.chosen is not None  # and need not be chosen again
    again = refit(config, begun, found, task_set, Folder.at(tmp_path), lambda _: None)
    everybody = at_start(config, task_set.joined(), torch.device("cpu"), tuned_on=task_set).model
    assert_same_bits(again, everybody)


def test_without_development_users_there_is_nothing_to_do(tmp_path: Path) -> None:
    shares = dataclasses.replace(SHARES, dev_share=0.0)
    task_set = write_task_set(LOG, Folder.at(tmp_path / "tasks"), shares)
    model, found, _ = trained(CONFIG, task_set, tmp_path / "model")
    assert found is model
    assert not (tmp_path / "model" / "refit").exists()


def test_ratings_are_refused(tmp_path: Path) -> None:
    log = generate(SyntheticConfig(num_users=30, num_items=50), seed=0)
    ratings = write_task_set(log, Folder.at(tmp_path))
    config = MetaTrainConfig(model=ModelConfig(algorithm="bayesian-linear"), refit=True)
    with pytest.raises(UserError, match="implicit feedback"):
        at_start(config, ratings, torch.device("cpu"))
