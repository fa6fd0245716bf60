"""Hand-written derivatives against finite differences, twice."""

from collections.abc import Callable

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from recmeta.metalearn.numerics.differentiable import before_relu, gram, moment, relu


def draw(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


CASES: dict[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "gram": (gram, (draw(2, 3, 4), draw(2, 5, 4))),
    "gram of shared rows": (gram, (draw(1, 3, 4), draw(2, 5, 4))),
    "gram of one column": (gram, (draw(2, 3, 1), draw(2, 5, 1))),
    "gram without rows": (gram, (draw(2, 3, 4), draw(2, 0, 4))),
    "moment": (moment, (draw(2, 5, 3), draw(2, 5, 4))),
    "moment of one column": (moment, (draw(2, 5, 3), draw(2, 5, 1))),
    "moment of one column without rows": (moment, (draw(2, 0, 3), draw(2, 0, 1))),
    "moment of one row": (moment, (draw(2, 1, 3), draw(2, 1, 4))),
    "relu": (relu, (draw(3, 4),)),
}


@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_equal_finite_differences(name: str) -> None:
    operation, inputs = CASES[name]
    assert gradcheck(operation, inputs)
    assert gradgradcheck(operation, inputs)


def test_a_relus_derivative_is_differentiable() -> None:
    hidden = draw(3, 4).detach().relu()
    assert gradcheck(lambda g: before_relu(g, hidden), (draw(3, 4),))
    assert gradgradcheck(lambda g: before_relu(g, hidden), (draw(3, 4),))
    z = draw(3, 4)
    (expected,) = torch.autograd.grad(torch.relu(z).sum(), z)
    torch.testing.assert_close(before_relu(torch.ones_like(z), z.relu()), expected)


@pytest.mark.parametrize("name", ["gram", "moment"])
@pytest.mark.parametrize("frozen", [0, 1])
def test_an_input_without_gradient_gets_none(name: str, frozen: int) -> None:
    operation, inputs = CASES[name]
    given = [t.detach() if n == frozen else t for n, t in enumerate(inputs)]
    assert gradcheck(operation, given)
    assert gradgradcheck(operation, given)


def test_values_are_those_of_plain_operations() -> None:
    left, right = draw(2, 3, 4), draw(2, 5, 4)
    torch.testing.assert_close(gram(left, right), torch.einsum("bri,bsi->brs", left, right))
    shared = draw(1, 3, 4)
    torch.testing.assert_close(gram(shared, right), torch.einsum("xri,bsi->brs", shared, right))
    known, gradient = draw(2, 5, 3), draw(2, 5, 6)
    expected = torch.einsum("bsi,bso->bio", known, gradient)
    torch.testing.assert_close(moment(known, gradient), expected)
