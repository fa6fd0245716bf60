"""Gaussians over latents: the divergence in closed form, and draws."""

import torch

from recmeta.metalearn.heads.gaussians import DiagonalGaussian, fixed_noise


def drawn(seed: int) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean, log_spread = (
        torch.randn((3, 4), generator=generator, dtype=torch.float64) for _ in range(2)
    )
    return DiagonalGaussian(mean, 0.5 * log_spread)


def as_torch(gaussian: DiagonalGaussian) -> torch.distributions.Normal:
    return torch.distributions.Normal(gaussian.mean_BZ, gaussian.log_spread_BZ.exp())


def test_the_divergence_is_that_of_torch_and_of_many_draws() -> None:
    first, second = drawn(0), drawn(1)
    found_B = first.divergence_from(second)
    expected_BZ = torch.distributions.kl_divergence(as_torch(first), as_torch(second))
    torch.testing.assert_close(found_B, expected_BZ.sum(1))
    noise = torch.randn(
        (200_000, 3, 4), generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    draws = first.sample(noise)
    log_ratio = as_torch(first).log_prob(draws) - as_torch(second).log_prob(draws)
    torch.testing.assert_close(found_B, log_ratio.sum(-1).mean(0), rtol=0.02, atol=0.02)


def test_nothing_diverges_from_itself() -> None:
    assert not drawn(0).divergence_from(drawn(0)).any()


def test_fixed_noise_is_the_same_for_any_batch() -> None:
    few, many = torch.zeros((1, 4)), torch.zeros((9, 4))
    assert torch.equal(fixed_noise(3, few), fixed_noise(3, many))
