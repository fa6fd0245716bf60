"""Posteriors of linear regressions, and their means without each row, exactly.

A row's share of the posterior's precision has rank one, so that the inverse without it is the
inverse with it and a correction (Sherman and Morrison, Annals of Mathematical Statistics 1950).

Legend: B users, S rows (padded), V = 1 + S variants (all rows, then all but each row), W weights.
"""

import torch
import torch.nn.functional as F


def posterior(
    prior_BW: torch.Tensor,
    precision_W: torch.Tensor,
    parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    value_BS: torch.Tensor,
    mask_BS: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the posterior means (B, W), and whiteners (B, W, W), the inverses of the precisions'
    Cholesky factors: the covariance is whitenerᵀ whitener.

    Args:
        prior_BW: prior means.
        precision_W: prior precisions.
        parts: offsets (B, S), design (B, S, W) and variances of the noise (B, S).
        value_BS: the values, which are offset + design · weights + noise.
        mask_BS: 1 for a row, 0 where padded.
    """
    offset_BS, design_BSW, noise_BS = parts
    weighted_BSW = design_BSW * (mask_BS / noise_BS)[..., None]
    factor_BWW = torch.linalg.cholesky(weighted_BSW.mT @ design_BSW + precision_W.diag())
    expected_BS = offset_BS + (design_BSW @ prior_BW[..., None])[..., 0]
    surprise_BS1 = (value_BS - expected_BS)[..., None]
    change_BW1 = torch.cholesky_solve(weighted_BSW.mT @ surprise_BS1, factor_BWW)
    eye_WW = torch.eye(len(precision_W), dtype=factor_BWW.dtype, device=factor_BWW.device)
    whitener_BWW = torch.linalg.solve_triangular(factor_BWW, eye_WW, upper=False)
    return prior_BW + change_BW1[..., 0], whitener_BWW


def all_then_without(term_BSN: torch.Tensor) -> torch.Tensor:
    """Return (B, V, N) sums over all rows, then over all but each row."""
    total_B1N = term_BSN.sum(1, keepdim=True)
    return torch.cat([total_B1N, total_B1N - term_BSN], 1)


def means_without(
    prior_BVW: torch.Tensor,
    precision_W: torch.Tensor,
    design_BSW: torch.Tensor,
    noise_BS: torch.Tensor,
    value_BS: torch.Tensor,
    mask_BS: torch.Tensor,
) -> torch.Tensor:
    """Return the posterior means (B, V, W). Variants that leave out a row of padding hold arbitrary
    numbers.

    It computes in float64, since without a row of nearly all information a small difference
    remains.

    Args:
        prior_BVW: prior means, which may differ between variants.
        precision_W: prior precisions.
        noise_BS: variances of the values.
        value_BS: the values, which are design · weights + noise.
        mask_BS: false where padded.
    """
    design_BSW, precision_W = design_BSW.double(), precision_W.double()
    noise_BS, mask_BS1 = noise_BS.double(), mask_BS.double()[..., None]
    share_BSW = design_BSW * mask_BS1 / noise_BS[..., None]
    gain_BVW = all_then_without(share_BSW * value_BS.double()[..., None])
    precision_BWW = share_BSW.mT @ design_BSW + precision_W.diag()
    inverse_BWW = torch.cholesky_inverse(torch.linalg.cholesky(precision_BWW))
    mean_BVW = (precision_W * prior_BVW.double() + gain_BVW) @ inverse_BWW
    solved_BSW = design_BSW @ inverse_BWW
    left_BS = noise_BS - (solved_BSW * design_BSW).sum(2)
    surprise_BS = (mean_BVW[:, 1:] * design_BSW).sum(2) / left_BS
    correction_BSW = torch.where(mask_BS1 > 0, solved_BSW * surprise_BS[..., None], 0)
    return mean_BVW + F.pad(correction_BSW, (0, 0, 1, 0))
