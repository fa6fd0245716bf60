"""A selector's members are trained as they are alone, and a killed training goes on."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from recmeta.metalearn.algorithms.closed_form.bayesian_linear import BayesianLinearConfig
from recmeta.metalearn.algorithms.combined.selector import SelectorConfig, of_member
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import Epoch, TrainingConfig
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import fit
from recmeta.training.shared_members import SharedMembers
from recmeta.training.start import at_start
from recmeta.workspace import Folder

TRAINING = TrainingConfig(epochs=2, learning_rate=1e-2)
MEMBERS = (
    MetaTrainConfig(
        model=ModelConfig(algorithm="bayesian-linear", learner=BayesianLinearConfig(num_factors=2)),
        training=TRAINING,
    ),
    MetaTrainConfig(
        model=ModelConfig(network=PreferenceConfig(embedding_dim=3, hidden_dims=(4,))),
        training=TRAINING,
        start="bayesian-factors",
    ),
)
SELECTOR = MetaTrainConfig(
    model=ModelConfig(algorithm="selector", learner=SelectorConfig(members_learn=False)),
    training=TRAINING,
    seed=5,
    members=MEMBERS,
)


class Killed(Exception):
    """As if the process had ended."""


@pytest.fixture(scope="module")
def task_set(tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    log = generate(SyntheticConfig(num_users=60, num_items=20, rows_per_user=(4, 10)), seed=0)
    return write_task_set(log, Folder.at(tmp_path_factory.mktemp("tasks")))


def trained(
    config: MetaTrainConfig, task_set: TaskSet, folder: Path, *, killed_in: int | None = None
) -> Model:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == killed_in:
            raise Killed

    begun = at_start(config, task_set, torch.device("cpu"))
    fit(config, begun, task_set, Folder.at(folder), on_epoch)
    return begun.model


def test_members_are_what_they_are_alone_and_a_killed_training_ends_the_same(
    task_set: TaskSet, tmp_path: Path
) -> None:
    whole = trained(SELECTOR, task_set, tmp_path / "whole")
    for number, how in enumerate(MEMBERS):
        alone_config = MetaTrainConfig(
            model=how.model, training=how.training, start=how.start, seed=5
        )
        alone = trained(alone_config, task_set, tmp_path / f"alone-{number}")
        own = of_member(number, whole.params)
        assert own.keys() == alone.params.keys()
        for name, p in alone.params.items():
            assert torch.equal(own[name], p), name
    with pytest.raises(Killed):
        trained(SELECTOR, task_set, tmp_path / "killed", killed_in=1)
    again = trained(SELECTOR, task_set, tmp_path / "killed")
    for name, p in whole.params.items():
        assert torch.equal(again.params[name], p), name


def test_what_takes_over_trained_members_ends_as_if_it_had_trained_them(
    task_set: TaskSet, tmp_path: Path
) -> None:
    shared = SharedMembers()
    model = dataclasses.replace(SELECTOR.model, learner=SelectorConfig(members_learn=True))
    first = dataclasses.replace(SELECTOR, model=model, lists="popularity")
    slower = dataclasses.replace(TRAINING, learning_rate=1e-3)
    other = dataclasses.replace(first, training=slower)  # the gate's rate, not the members'
    assert shared.of(first) is None

    def fitted(config: MetaTrainConfig, name: str, kept: SharedMembers) -> Model:
        begun = at_start(config, task_set, torch.device("cpu"), trained=kept.of(config))
        keep = functools.partial(kept.keep, config)
        fit(
            config, begun, task_set, Folder.at(tmp_path / name), lambda epoch: None, on_members=keep
        )
        return begun.model

    fitted(first, "first", shared)
    again = fitted(other, "again", shared)
    assert not Folder.at(tmp_path / "again" / "members").names(), "nothing was trained again"
    alone = fitted(other, "alone", SharedMembers())
    assert list(again.params) == list(alone.params)
    for name, p in alone.params.items():
        assert torch.equal(again.params[name], p), name

    seeded = dataclasses.replace(other, seed=6)
    longer = dataclasses.replace(MEMBERS[0], training=dataclasses.replace(TRAINING, epochs=3))
    read = dataclasses.replace(model, features=FeatureConfig(use_item_id=False))
    for config in (
        seeded,
        dataclasses.replace(other, members=(longer, MEMBERS[1])),
        dataclasses.replace(other, model=read),
    ):
        assert shared.of(config) is None, "these would be trained otherwise"


def test_members_are_for_learners_that_have_them() -> None:
    with pytest.raises(ValueError, match="one is the base"):
        MetaTrainConfig(members=MEMBERS)
    with pytest.raises(ValueError, match="members are given, and the algorithm is 'film'"):
        MetaTrainConfig(model=ModelConfig(algorithm="film"), members=MEMBERS)
    content = MetaTrainConfig(model=MEMBERS[0].model, content_from="models/k")
    with pytest.raises(ValueError, match="give it for the whole model"):
        MetaTrainConfig(model=SELECTOR.model, members=(content, MEMBERS[1]))
