"""Gaussians with a diagonal covariance, over latent variables of a user.

Legend: B users, Z latent dimensions.
"""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class DiagonalGaussian:
    """A user's distribution over Z numbers."""

    mean_BZ: torch.Tensor
    log_spread_BZ: torch.Tensor
    """Logarithms of the standard deviations."""

    def sample(self, noise_BZ: torch.Tensor) -> torch.Tensor:
        """Return a draw (B, Z) that is differentiable with respect to mean and spread (Kingma,
        Welling, ICLR 2014).

        Args:
            noise_BZ: standard normal numbers; (…, B, Z) for several draws.
        """
        return self.mean_BZ + self.log_spread_BZ.exp() * noise_BZ

    def divergence_from(self, other: "DiagonalGaussian") -> torch.Tensor:
        """Return KL(this ‖ other), (B,), in nats."""
        log_ratio_BZ = self.log_spread_BZ - other.log_spread_BZ
        far_BZ = (self.mean_BZ - other.mean_BZ) / other.log_spread_BZ.exp()
        return (0.5 * ((2 * log_ratio_BZ).exp() + far_BZ.square() - 1) - log_ratio_BZ).sum(-1)


def fixed_noise(num_draws: int, like_BZ: torch.Tensor) -> torch.Tensor:
    """Return standard normal numbers (M, Z) that are always the same, so that every user has the
    same draws, whoever else is in the batch."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn((num_draws, like_BZ.shape[1]), generator=generator, dtype=torch.float64)
    return drawn.to(like_BZ)
