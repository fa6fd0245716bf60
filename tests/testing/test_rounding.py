"""Tolerances that follow from conditioning, on functions whose condition is known."""

import numpy as np
import pytest
import torch

from recmeta.testing.rounding import assert_equal_but_for_rounding, tolerances

EPS = torch.finfo(torch.float64).eps


@pytest.mark.parametrize("exponent", [1, 4, 7])
def test_a_linear_system_gets_what_its_condition_asks(exponent: int) -> None:
    """x = A⁻¹ b by two ways: errors grow with the condition of A, and so does what is allowed."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(12, 12)))[0] for _ in range(2))
    matrix = left @ np.diag(np.logspace(0, -exponent, 12)) @ right
    params = {"matrix": torch.from_numpy(matrix), "b": torch.from_numpy(rng.normal(size=12))}
    allowed = tolerances(
        lambda p: {"x": torch.linalg.solve(p["matrix"], p["b"])}, params, roundings=24
    )["x"]
    by_solving = torch.linalg.solve(params["matrix"], params["b"])
    by_inverse = torch.linalg.inv(params["matrix"]) @ params["b"]
    error = float((by_solving - by_inverse).abs().max())
    bound = 24 * EPS * 10**exponent * float(by_solving.abs().max())
    assert error < allowed
    assert bound / 100 < allowed < bound * 12  # the bound is the worst case in the Euclidean norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_gets_units_in_the_last_place(dtype: torch.dtype) -> None:
    params = {"x": torch.rand(1000, generator=torch.Generator().manual_seed(0)).to(dtype)}
    allowed = tolerances(lambda p: {"sum": p["x"].sum()}, params, roundings=100)["sum"]
    total = float(params["x"].sum())
    assert 100 * torch.finfo(dtype).eps * total == pytest.approx(allowed)
    backwards = params["x"].flip(0).cumsum(0)[-1]
    assert_equal_but_for_rounding({"sum": backwards}, {"sum": params["x"].sum()}, {"sum": allowed})


def test_what_is_inexact_is_amplified_too() -> None:
    params = {"x": torch.ones(1, dtype=torch.float64)}
    allowed = tolerances(lambda p: {"y": 1e3 * p["x"]}, params, roundings=1, inexact=1e-6)
    assert allowed["y"] == pytest.approx(1e-3)


def test_a_mistake_is_named() -> None:
    params = {"x": torch.ones(3, dtype=torch.float64)}
    allowed = tolerances(lambda p: {"right": p["x"], "wrong": p["x"]}, params, roundings=1_000)
    found = {"right": params["x"], "wrong": params["x"] * (1 + 1e-9)}
    with pytest.raises(AssertionError, match="wrong"):
        assert_equal_but_for_rounding(found, {"right": params["x"], "wrong": params["x"]}, allowed)
