"""The exact (ε, δ) privacy of one user in a training with clipped and noised updates.

If every round adds noise N(0, (z·C)²) to a sum to which a user contributes at most C, the outcomes
of T rounds with and without a user differ as two unit Gaussians whose means are μ = √T / z apart
(Dong, Roth, Su, Gaussian differential privacy, JRSS B 2022, corollary 3.3), and

    δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)        (Balle, Wang, ICML 2018, theorem 8)

This is tight, unlike the moments accountant (Abadi et al., CCS 2016). That one helps where a round
is a random sample of users; here every user takes part once in an epoch, so that a round is an
epoch.
"""

import math

import torch

MOST_EPSILON = 1e6
"""The largest ε that is reported as a guarantee."""


def delta_of(epsilon: float, noise_multiplier: float, rounds: int) -> float:
    """Return the δ for which T rounds are (ε, δ)-differentially private.

    Args:
        noise_multiplier: z, the noise's standard deviation as a multiple of the clipping norm.
    """
    apart = math.sqrt(rounds) / noise_multiplier
    places = torch.tensor(
        [apart / 2 - epsilon / apart, -apart / 2 - epsilon / apart], dtype=torch.float64
    )
    first, second = torch.special.log_ndtr(places).tolist()
    return max(0.0, math.exp(first) - math.exp(epsilon + second))


def epsilon_of(delta: float, noise_multiplier: float, rounds: int) -> float:
    """Return the least ε for which T rounds are (ε, δ)-differentially private, which is infinite
    without noise.

    Args:
        delta: must be below one over the number of users for the guarantee to mean anything.
        noise_multiplier: z, the noise's standard deviation as a multiple of the clipping norm.
    """
    if noise_multiplier <= 0:
        return math.inf
    if rounds == 0 or delta_of(0.0, noise_multiplier, rounds) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(high, noise_multiplier, rounds) > delta:
        low, high = high, 2 * high
        if high > MOST_EPSILON:
            return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if delta_of(middle, noise_multiplier, rounds) > delta:
            low = middle
        else:
            high = middle
    return high
