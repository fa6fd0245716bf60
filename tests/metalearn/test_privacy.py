"""The accountant against values that are known, a bound by moments, and numerical integration."""

import math

import pytest
import torch

from recmeta.metalearn.outer_loop.privacy import delta_of, epsilon_of


@pytest.mark.parametrize(
    ("epsilon", "multiplier"),
    # Gaussians with δ = 1e-5, calibrated exactly by Balle and Wang's algorithm 1.
    [(1.0, 3.730632), (0.5, 7.031827), (2.0, 1.993812)],
)
def test_known_calibrations(epsilon: float, multiplier: float) -> None:
    assert epsilon_of(1e-5, multiplier, rounds=1) == pytest.approx(epsilon, rel=1e-4)


def test_it_is_the_hockey_stick_of_two_gaussians() -> None:
    """δ = ∫ max(0, p(x) − e^ε q(x)) dx."""
    epsilon, multiplier, rounds = 1.3, 2.0, 9
    apart = math.sqrt(rounds) / multiplier
    x = torch.linspace(-12, 12, 2_000_001, dtype=torch.float64)
    first, second = (
        torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), 1.0).log_prob(x).exp()
        for mean in (apart, 0.0)
    )
    expected = torch.trapezoid((first - math.exp(epsilon) * second).clamp(min=0), x)
    assert delta_of(epsilon, multiplier, rounds) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("rounds", [1, 30, 1000])
def test_moments_bound_it_from_above(multiplier: float, rounds: int) -> None:
    """ε ≤ T/2z² + √(2 T log 1/δ) / z (Mironov, CSF 2017, by the best order)."""
    bound = rounds / (2 * multiplier**2) + math.sqrt(2 * rounds * math.log(1e5)) / multiplier
    found = epsilon_of(1e-5, multiplier, rounds)
    assert 0.5 * bound < found < bound


def test_more_noise_or_fewer_rounds_give_less_away() -> None:
    assert epsilon_of(1e-5, 2.0, 10) < epsilon_of(1e-5, 1.0, 10) < epsilon_of(1e-5, 1.0, 20)
    assert epsilon_of(1e-5, 2.0, 0) == 0.0
    assert epsilon_of(0.9, 2.0, 1) == 0.0
    assert epsilon_of(1e-5, 0.0, 1) == math.inf
    assert epsilon_of(1e-5, 1e-4, 1000) == math.inf
