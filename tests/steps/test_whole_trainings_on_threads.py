"""The same data and seed give the same model to the last bit, on however many threads."""

import dataclasses
from pathlib import Path

import pytest
import torch

from recmeta.metalearn.model import Model
from recmeta.tasks.task_set import Objective, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.choices.config import ChoiceConfig
from recmeta.training.fit import fit
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder

SIZE = SyntheticConfig(num_users=180, num_items=120, rows_per_user=(20, 40))
"""Large enough for PyTorch to share its operations among threads."""


@pytest.fixture(scope="module")
def task_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[Objective, TaskSet]:
    objectives: tuple[Objective, ...] = ("rating", "implicit")
    return {
        objective: write_task_set(
            generate(dataclasses.replace(SIZE, objective=objective), seed=5),
            Folder.at(tmp_path_factory.mktemp("tasks")),
        )
        for objective in objectives
    }


def trained(learner: str, task_set: TaskSet, folder: Path, num_threads: int) -> tuple[Model, float]:
    """Return a model trained for two epochs, and the last one's development loss."""
    config = training_of(learner, task_set.spec.objective)
    config = dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, epochs=2),
        members=tuple(
            dataclasses.replace(m, training=dataclasses.replace(m.training, epochs=2))
            for m in config.members
        ),
        choices=ChoiceConfig(num_factors=8, epochs=1),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        begun = at_start(config, task_set, torch.device("cpu"))
        history = fit(config, begun, task_set, Folder.at(folder), lambda _: None).history
    finally:
        torch.set_num_threads(before)
    return begun.model, history[-1].dev_loss


@pytest.mark.parametrize(
    ("learner", "objective"),
    [("maml", "rating"), ("bayesian-linear", "rating"), ("maml", "implicit")],
)
def test_a_whole_training_has_the_same_bits(
    learner: str, objective: Objective, task_sets: dict[Objective, TaskSet], tmp_path: Path
) -> None:
    task_set = task_sets[objective]
    expected, expected_loss = trained(learner, task_set, tmp_path / "1", 1)
    assert expected.learned_lists is not None
    for num_threads in (2, 3) if (learner, objective) == ("maml", "rating") else (3,):
        model, loss = trained(learner, task_set, tmp_path / str(num_threads), num_threads)
        assert loss == expected_loss
        for name, p in expected.params.items():
            assert torch.equal(model.params[name], p), name
        assert model.learned_lists is not None
        found = model.learned_lists.tensors()
        for name, t in expected.learned_lists.tensors().items():
            assert torch.equal(found[name], t), name
        assert (model.levels is None) == (expected.levels is None)
        if expected.levels is not None and model.levels is not None:
            found = model.levels.tensors()
            for name, t in expected.levels.tensors().items():
                assert torch.equal(found[name], t), name
        assert model.uncertainty == expected.uncertainty
