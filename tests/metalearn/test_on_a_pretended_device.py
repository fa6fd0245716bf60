"""Training, lists and reasons mix no devices: what a GPU would refuse fails here, without one."""

import dataclasses
import os

import numpy as np
import pytest
import torch
from pretended_device import OnDevice, array, pretended_device

from recmeta.evaluation.baseline import ranking_losses
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.metalearn.heads.list_head import ATTRIBUTES, CHOICES
from recmeta.metalearn.model import Model
from recmeta.metalearn.registry import LEARNERS
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.list_reasons import list_effects
from recmeta.serving.lists import ListMaker
from recmeta.serving.ranking import ScoringConfig, adapt_users
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Objective, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import fit_whole
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import MemoryFolder

SLOW = bool(os.environ.get("RECMETA_SLOW"))
FAST = [("implicit", "maml")]
OTHERS = [("implicit" if name == "weighted-ridge" else "rating", name) for name in LEARNERS]


def test_tensors_of_two_devices_do_not_meet() -> None:
    with pretended_device() as device:
        there, here = torch.ones(3, device=device), torch.ones(3)
        assert isinstance(there, OnDevice)
        assert array(there + here.to(device)).tolist() == [2, 2, 2]
        assert array(there[here.long()]).tolist() == [1, 1, 1]
        with pytest.raises(RuntimeError, match="on two devices"):
            there + here
        with pytest.raises(RuntimeError, match="on two devices"):
            here[there.long()]
        with pytest.raises(TypeError, match="call cpu"):
            there.numpy()


def short(config: MetaTrainConfig) -> MetaTrainConfig:
    """Return a recipe with at most two passes of everything."""

    def of(how: MetaTrainConfig) -> MetaTrainConfig:
        training = dataclasses.replace(how.training, epochs=min(2, how.training.epochs))
        choices = dataclasses.replace(how.choices, epochs=min(2, how.choices.epochs))
        return dataclasses.replace(how, training=training, choices=choices)

    return dataclasses.replace(of(config), members=tuple(map(of, config.members)))


def tasks(objective: Objective) -> TaskSet:
    config = SyntheticConfig(num_users=90, num_items=60, rows_per_user=(8, 20), objective=objective)
    return write_task_set(generate(config, seed=0), MemoryFolder())


def trained(name: str, task_set: TaskSet, device: torch.device) -> Model:
    config = short(training_of(name, task_set.spec.objective))
    begun = at_start(config, task_set, device)
    return fit_whole(config, begun, task_set, MemoryFolder(), lambda epoch: None).model


def listed(model: Model, task_set: TaskSet) -> tuple[IntArray, Float64Array, Float64Array]:
    """Return the lists of the cold users, their reasons, and how good they are."""
    cold, history = task_set.tasks("test"), task_set.history()
    over = model.on(task_set.items(), task_set.statistics(), history)
    scorer = Scorer.of(over)
    users = adapt_users(scorer, cold)
    item_Bk = ListMaker(scorer, ScoringConfig(top_k=5)).make(users, cold).item_Bk
    effects = list_effects(scorer, users.state, cold, item_Bk).effect_Nk
    predictor = LearnedPredictor(model.algorithm, over, history)
    losses = ranking_losses(predictor, cold, task_set.spec.num_items)
    return item_Bk, effects.astype(np.float64), losses


@pytest.mark.parametrize(("objective", "name"), FAST + (OTHERS if SLOW else []))
def test_a_whole_training_is_that_of_the_cpu(objective: Objective, name: str) -> None:
    task_set = tasks(objective)
    here = trained(name, task_set, torch.device("cpu"))
    with pretended_device() as device:
        there = trained(name, task_set, device)
        assert all(isinstance(p, OnDevice) for p in there.params.values())
        found = listed(there, task_set)
    for parameter, p in here.params.items():  # PyTorch's attention rounds otherwise on the CPU
        np.testing.assert_allclose(array(there.params[parameter]), array(p), 1e-3, 1e-4)
    item_Bk, _, loss_B = listed(here, task_set)
    assert (found[0] == item_Bk).mean() > 0.95
    np.testing.assert_allclose(np.nanmean(found[2]), np.nanmean(loss_B), atol=0.01)


def test_a_saved_model_goes_onto_a_device_with_its_lists() -> None:
    task_set, folder = tasks("implicit"), MemoryFolder()
    model = trained("maml", task_set, torch.device("cpu"))
    assert model.learned_lists is not None
    assert {CHOICES, ATTRIBUTES} & {*model.learned_lists.columns, *model.learned_lists.tables}
    model.save(folder)
    expected = listed(model, task_set)
    with pretended_device() as device:
        found = listed(Model.load(folder, device), task_set)
    for there, here in zip(found, expected, strict=True):
        np.testing.assert_array_equal(there, here)
