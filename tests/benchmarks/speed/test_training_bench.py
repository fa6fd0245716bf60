"""Devices that learn something else are not compared."""

import pytest

from benchmarks.speed.training import check, plan
from recmeta.training.recipes import training_of


def row(device: str, losses: list[float], *, batch_size: int = 16) -> dict[str, object]:
    return {"learner": "maml", "device": device, "batch_size": batch_size, "dev_losses": losses}


def test_losses_must_agree_epoch_by_epoch() -> None:
    check([row("cuda", [0.72, 0.7]), row("cpu", [0.7201, 0.701]), row("cuda", [9.0], batch_size=8)])
    with pytest.raises(AssertionError, match="maml has development losses"):
        check([row("cuda", [0.72, 0.7]), row("cpu", [0.72, 0.71])])


def test_each_training_on_a_gpu_has_its_like_on_the_cpu() -> None:
    maml = list(plan("maml", training_of("maml"), "cuda", 4))
    assert [(one.device, one.batch_size, one.epochs) for one in maml] == [
        ("cuda", 16, 2),
        ("cpu", 16, 2),
        ("cuda", 1024, 4),
    ]
    closed_form = list(plan("bayesian-linear", training_of("bayesian-linear"), "cpu", 4))
    assert [(one.device, one.batch_size) for one in closed_form] == [("cpu", 64), ("cpu", 1024)]
