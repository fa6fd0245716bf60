"""Generated users: how many, with what, and what training learns from them."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from recmeta import schema
from recmeta.config import parse, to_dict
from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.task_set import Objective, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.augmentation.config import AugmentConfig
from recmeta.training.augmentation.generated import generated, missing, with_generated
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import fit
from recmeta.training.start import at_start
from recmeta.workspace import MemoryFolder

CPU = torch.device("cpu")
SMALL = SyntheticConfig(num_users=90, num_items=25, rows_per_user=(5, 10), num_stars=5)


def tasks_of(objective: Objective = "rating") -> TaskSet:
    config = dataclasses.replace(SMALL, objective=objective)
    return write_task_set(generate(config, seed=0), MemoryFolder())


@pytest.fixture(scope="module")
def task_set() -> TaskSet:
    return tasks_of()


@pytest.fixture(scope="module")
def generator(task_set: TaskSet) -> Model:
    """An untrained one: who is generated, and of what, it does not decide."""
    network = PreferenceConfig(embedding_dim=3, hidden_dims=(4,))
    config = ModelConfig(algorithm="adversarial", network=network)
    model = Model.untrained(config, task_set, CPU)
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    return model


def test_rare_values_are_filled_up(task_set: TaskSet, generator: Model) -> None:
    real = task_set.tasks("train")
    counts = Counter(real.profile["group"].to_pylist())
    wanted = AugmentConfig(attribute="group", least_users=sorted(counts.values())[-2])
    lacking = missing(wanted, real)
    assert lacking == {
        value: wanted.least_users - count
        for value, count in counts.items()
        if count < wanted.least_users
    }
    found = generated(generator, real, task_set.statistics(), wanted, seed=0)
    assert Counter(found.profile["group"].to_pylist()) == lacking
    assert found.profile.schema == real.profile.schema
    assert len(set(found.user_id)) == len(found)
    assert not set(found.user_id) & set(real.user_id)
    profiles = real.profile.drop_columns([schema.USER_ID]).to_pylist()
    assert all(p in profiles for p in found.profile.drop_columns([schema.USER_ID]).to_pylist())


def test_rows_are_of_items_that_were_met_and_on_the_scale(
    task_set: TaskSet, generator: Model
) -> None:
    real, statistics = task_set.tasks("train"), task_set.statistics()
    wanted = AugmentConfig(attribute="group", least_users=30)
    found = generated(generator, real, statistics, wanted, seed=0)
    rows = found.query
    assert (found.support.lengths == 0).all()
    assert set(rows.lengths) <= set(real.support.lengths + real.query.lengths)
    pairs = rows.task * task_set.spec.num_items + rows.item
    assert len(np.unique(pairs)) == len(pairs), "nobody rates an item twice"
    assert (statistics.num_users[found.snapshot[rows.task], rows.item] > 0).all()
    assert set(rows.value.tolist()) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert len(set(rows.value.tolist())) > 1
    again = generated(generator, real, statistics, wanted, seed=0)
    other = generated(generator, real, statistics, wanted, seed=1)
    np.testing.assert_array_equal(again.query.value, rows.value)
    assert other.query.item.tolist() != rows.item.tolist()


def test_the_learner_is_trained_on_them_and_the_start_is_not(task_set: TaskSet) -> None:
    def trained(augment: AugmentConfig | None) -> Model:
        config = MetaTrainConfig(
            model=ModelConfig(network=PreferenceConfig(embedding_dim=3, hidden_dims=())),
            training=TrainingConfig(epochs=1, learning_rate=1e-2),
            start="random",
            lists="popularity",
            augment=augment,
        )
        begun = at_start(config, task_set, CPU)
        before = {name: p.clone() for name, p in begun.model.params.items()}
        if augment is None:
            starts.append(before)
        else:
            assert all(torch.equal(p, before[name]) for name, p in starts[0].items())
        fit(config, begun, task_set, MemoryFolder(), lambda epoch: None)
        return begun.model

    starts: list[dict[str, torch.Tensor]] = []
    without = trained(None)
    with_them = trained(AugmentConfig(attribute="group", least_users=13))
    assert any((with_them.params[name] != p).any() for name, p in without.params.items())
    assert len(task_set.tasks("train")) == 54, "the task set itself is as it was"


def test_where_no_value_is_rare_nobody_is_generated(task_set: TaskSet) -> None:
    nobody = AugmentConfig(attribute="group", least_users=1)
    assert with_generated(nobody, task_set, CPU, MemoryFolder(), seed=0) is task_set


@pytest.mark.parametrize(
    ("objective", "attribute", "said"),
    [
        ("implicit", "group", "feedback of these tasks is implicit"),
        ("rating", "grup", "augment.attribute is 'grup', .* Did you mean 'group'"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    objective: Objective, attribute: str, said: str
) -> None:
    config = AugmentConfig(attribute=attribute)
    with pytest.raises(UserError, match=said):
        with_generated(config, tasks_of(objective), CPU, MemoryFolder(), seed=0)


def test_the_configuration_says_who_is_meant_once_and_for_ratings() -> None:
    augment = AugmentConfig(attribute="group")
    config = MetaTrainConfig(augment=augment)
    assert parse(MetaTrainConfig, to_dict(config), "train") == config
    assert parse(MetaTrainConfig, {}, "train").augment is None
    with pytest.raises(ValueError, match="given for a member"):
        MetaTrainConfig(members=(MetaTrainConfig(augment=augment),))
    with pytest.raises(UserError, match="with refit"):
        MetaTrainConfig(augment=augment, refit=True)
    with pytest.raises(ValueError, match="least_users is 0"):
        AugmentConfig(attribute="group", least_users=0)
