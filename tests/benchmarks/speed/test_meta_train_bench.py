"""Everybody in the meta-training benchmark computes the same, and ceilings count what is done."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch

from benchmarks.speed.melu_shape import MeluShape, melu_shape
from benchmarks.speed.meta_train.measure import CONTESTANTS, make
from benchmarks.speed.meta_train.run import check
from benchmarks.speed.roofline import Roofline, roofline

LIBRARIES = ("higher", "torchopt")
USERS = np.arange(3)


@pytest.fixture(scope="module", params=[1, 3])
def shape(request: pytest.FixtureRequest) -> MeluShape:
    return melu_shape(num_steps=request.param)


@pytest.mark.parametrize("name", CONTESTANTS)
def test_a_contestant_computes_our_loss_and_gradient(name: str, shape: MeluShape) -> None:
    if name in LIBRARIES and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'recmeta[bench]'")
    model = shape.model
    batch = model.batch(shape.tasks.take(USERS))
    ours, metrics = model.learner.meta_gradient(model.params, batch, torch.Generator())
    contestant = make(name, shape)
    contestant.prepare(USERS)
    loss, gradients = contestant.meta_gradient(USERS)
    assert loss == pytest.approx(metrics["loss"], rel=1e-5)
    assert gradients.keys() == ours.keys()
    for key, gradient in ours.items():
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-3, atol=1e-6)


def test_who_computes_something_else_is_not_compared() -> None:
    ours = {"name": "recmeta", "loss": 1.0, "gradient_norm": 0.5}
    check(ours, {"name": "other", "loss": 1.00001, "gradient_norm": 0.5})
    with pytest.raises(AssertionError, match=r"other has gradient_norm 0\.4"):
        check(ours, {"name": "other", "loss": 1.0, "gradient_norm": 0.4})


def test_a_roofline_counts_products_and_traffic() -> None:
    left, right, table = torch.rand(32, 16), torch.rand(16, 8), torch.rand(1000, 4)

    def work() -> torch.Tensor:
        return (left @ right).relu()[:3, :4] + table.index_select(0, torch.tensor([1, 2, 3]))

    found = roofline(work, torch.device("cpu"))
    assert found.flops == 2 * 32 * 16 * 8
    product = 4 * (32 * 16 + 16 * 8 + 32 * 8)
    relu, rows, total = 4 * 2 * 32 * 8, 4 * 2 * 12, 4 * 3 * 12
    assert found.bytes == product + relu + rows + total


def test_the_slower_resource_is_the_ceiling() -> None:
    found = Roofline(flops=100.0, bytes=10.0, peak_flops=50.0, bandwidth=100.0, product_seconds=3.0)
    assert found.seconds == 2.0
    row = found.to_dict(num_users=4, users_per_second=1.0)
    assert row["ceiling_users_per_second"] == 2.0
    assert row["share_of_ceiling"] == 0.5
    assert row["share_of_products"] == 0.75
    assert dataclasses.replace(found, flops=1.0, bytes=900.0).seconds == 9.0


def test_every_product_counts_as_often_as_it_is_taken() -> None:
    left, right = torch.rand(64, 64), torch.rand(64, 64)

    def times(number: int) -> float:
        def work() -> None:
            for _ in range(number):
                (left @ right).relu()

        return roofline(work, torch.device("cpu")).product_seconds

    once = times(1)
    assert once > 0
    assert times(1000) > 50 * once  # a thousandfold, on a machine that has nothing else to do
