"""The benchmark of generated users: its distances, and the whole of it on a small log."""

import dataclasses
import os

import numpy as np
import pytest
import torch

from benchmarks.augmentation import judged, nearness
from benchmarks.augmentation.__main__ import parser
from recmeta.errors import UserError
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.task_set import Ragged
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.training.augmentation.config import AugmentConfig
from recmeta.training.config import MetaTrainConfig
from recmeta.workspace import MemoryFolder


def test_a_copy_is_near_and_the_opposite_is_far() -> None:
    mean_I = np.full(4, 3.0)
    known = Ragged.from_lists([[0, 1], [2, 3]], [[5.0, 2.0], [4.0, 4.0]])
    asked = Ragged.from_lists([[0, 1], [0, 1], [0]], [[5.0, 2.0], [1.0, 4.0], [3.0]])
    distance_U = nearness._nearest(
        nearness._directions(asked, mean_I), nearness._directions(known, mean_I)
    )
    # The opposite of the first shares nothing with the second, who is nearer; a mean has no side.
    np.testing.assert_allclose(distance_U, [0.0, 1.0, 1.0], atol=1e-12)
    twin = dataclasses.replace(known, value=known.value + np.array([1, 0, 0, -2], np.float32))
    np.testing.assert_allclose(nearness._apart(known, twin), [0.5, 1.0])


def test_the_command_says_what_it_judges() -> None:
    asked = parser().parse_args(["--attribute", "occupation"])
    assert (asked.attribute, asked.least_users, asked.folds) == ("occupation", 30, 5)


@pytest.mark.parametrize(
    ("folds", "judged_", "said"),
    [
        (2, 1, "--folds is 2"),
        (3, 4, "--judged is 4"),
        (3, 0, "--judged is 0"),
        (200, 1, "for 200 --folds"),
    ],
)
def test_folds_that_cannot_be_judged_are_refused(folds: int, judged_: int, said: str) -> None:
    log = generate(SyntheticConfig(num_users=30, num_items=10, rows_per_user=(3, 5)), seed=0)
    task_set = write_task_set(log, MemoryFolder())
    augment = AugmentConfig(attribute="group")
    with pytest.raises(UserError, match=said):
        judged.judge(task_set, augment, MetaTrainConfig(), num_folds=folds, num_judged=judged_)


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
def test_whole() -> None:
    log = generate(SyntheticConfig(num_users=150, num_items=30, rows_per_user=(8, 15)), seed=0)
    task_set = write_task_set(log, MemoryFolder())
    config = MetaTrainConfig(
        model=ModelConfig(network=PreferenceConfig(embedding_dim=3, hidden_dims=())),
        training=TrainingConfig(epochs=2, learning_rate=1e-2),
        start="random",
    )
    augment = AugmentConfig(attribute="group", least_users=6)
    found, text = judged.judge(task_set, augment, config, num_folds=3, num_judged=2)
    changes = found["changes"]
    assert {(row["users"], row["k"]) for row in changes} == {
        (whom, k) for whom in ("rare", "other") for k in judged.SHOTS
    }
    assert torch.isfinite(torch.tensor([row["alone"]["mean"] for row in changes])).all()
    assert 0 <= found["nearness"]["nearer_than_the_real_one"] <= 1
    assert "distance to the nearest training user" in text
    with pytest.raises(UserError, match="every value of group has 1 training users or more"):
        judged.judge(
            task_set,
            AugmentConfig(attribute="group", least_users=1),
            config,
            num_folds=3,
            num_judged=1,
        )
