"""Losses per task, and that padding is worth nothing."""

import math

import pytest
import torch

from recmeta.metalearn.inner_loop.objectives import loss_of, slope_of

NAMES = ("squared", "absolute", "bce", "softmax")


def one(name: str, output: list[float], value: list[float]) -> float:
    mask = torch.ones(1, len(output), dtype=torch.bool)
    return loss_of(name)(torch.tensor([output]), torch.tensor([value]), mask).item()


def test_values_by_hand() -> None:
    assert one("squared", [1.0, 2.0], [0.0, 4.0]) == pytest.approx(2.5)
    assert one("absolute", [1.0, 2.0], [0.0, 4.0]) == pytest.approx(1.5)
    assert one("bce", [0.0, 0.0], [0.0, 1.0]) == pytest.approx(math.log(2))
    assert one("softmax", [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]) == pytest.approx(math.log(3))
    assert one("softmax", [0.0, 0.0], [1.0, 1.0]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_rows_has_no_loss_and_no_gradient(name: str) -> None:
    output = torch.randn(2, 3, requires_grad=True)
    loss = loss_of(name)(output, torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert output.grad is not None
    assert not output.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_no_columns_at_all(name: str) -> None:
    none = torch.zeros(2, 0)
    assert loss_of(name)(none, none, none.bool()).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [0, 1, 5])
def test_a_slope_is_the_losss_derivative_and_has_one(name: str, columns: int) -> None:
    generator = torch.Generator().manual_seed(3)
    shape = (6, columns)
    output = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    value = torch.randint(0, 2, shape, generator=generator).double()
    mask = torch.rand(shape, generator=generator) < 0.7
    mask[0] = False
    value[1] = 0.0
    loss = loss_of(name)(output, value, mask).sum()
    (expected,) = torch.autograd.grad(loss, output, create_graph=True)
    found = slope_of(name)(output, value, mask)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    if columns and name != "absolute":  # whose second derivative is none
        second, expected_second = (
            torch.autograd.grad((slope * weights).sum(), output)[0] for slope in (found, expected)
        )
        torch.testing.assert_close(second, expected_second)


def test_softmax_without_positives_is_zero() -> None:
    assert one("softmax", [1.0, 2.0], [0.0, 0.0]) == 0.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("filler", [0.0, 7.0, -1e4])
def test_what_stands_in_padding_does_not_matter(name: str, filler: float) -> None:
    output = torch.tensor([[0.3, -1.0, filler, filler]], requires_grad=True)
    value = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False, False]])
    loss = loss_of(name)(output, value, mask)
    assert loss.item() == pytest.approx(one(name, [0.3, -1.0], [1.0, 0.0]), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_precision_is_kept(name: str) -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss = loss_of(name)(torch.rand(1, 2, dtype=torch.float64), torch.tensor([[1.0, 0.0]]), mask)
    assert loss.dtype == torch.float64
