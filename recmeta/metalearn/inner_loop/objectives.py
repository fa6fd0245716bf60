"""Losses over a task's rows. Each returns one number per task, so that no user outweighs another.

Legend: B tasks, R rows (padded).
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F

ObjectiveName = Literal["squared", "absolute", "bce", "softmax"]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def loss_of(name: ObjectiveName) -> Loss:
    """Return a loss, a function of (output_BR, value_BR, mask_BR) with values (B,).

    `squared` and `absolute` are means over the task's rows of graded values; `bce` is the mean
    logistic loss of values 0 and 1; `softmax` is the cross-entropy of the task's positives among
    all of its rows. A task without rows (for `softmax`, without positives) has loss 0.
    """
    return {"squared": _squared, "absolute": _absolute, "bce": _bce, "softmax": _softmax}[name]


def slope_of(name: ObjectiveName) -> Loss:
    """Return the derivative of a loss, a function of (output_BR, value_BR, mask_BR) with values (B,
    R): that of each task's loss with respect to its outputs. It is differentiable where the outputs
    are."""
    return {
        "squared": _squared_slope,
        "absolute": _absolute_slope,
        "bce": _bce_slope,
        "softmax": _softmax_slope,
    }[name]


def gaussian(
    mean_BR: torch.Tensor, spread_BR: torch.Tensor, value_BR: torch.Tensor, mask_BR: torch.Tensor
) -> torch.Tensor:
    """Return each task's mean negative log-likelihood (B,) of values under N(mean, spread²), up to
    the constant log √2π; 0 for a task without rows."""
    surprise_BR = (value_BR - mean_BR) / spread_BR
    return _mean(0.5 * surprise_BR.square() + spread_BR.log(), mask_BR)


def _mean(loss_BR: torch.Tensor, mask_BR: torch.Tensor) -> torch.Tensor:
    return (loss_BR * mask_BR).sum(1) / mask_BR.sum(1).clamp(min=1)


def _squared(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _mean((output - value).square(), mask)


def _absolute(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _mean((output - value).abs(), mask)


def _bce(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    loss = F.binary_cross_entropy_with_logits(output, value.to(output.dtype), reduction="none")
    return _mean(loss, mask)


def _softmax(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if output.shape[1] == 0:
        return output.sum(1)
    lowest = torch.finfo(output.dtype).min
    log_share_BR = output.masked_fill(~mask, lowest).log_softmax(1)
    positive_BR = value * mask
    return -(log_share_BR * positive_BR).sum(1) / positive_BR.sum(1).clamp(min=1)


def _mean_slope(slope_BR: torch.Tensor, mask_BR: torch.Tensor) -> torch.Tensor:
    return slope_BR * mask_BR / mask_BR.sum(1, keepdim=True).clamp(min=1)


def _squared_slope(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _mean_slope(2 * (output - value), mask)


def _absolute_slope(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _mean_slope((output - value).sign(), mask)


def _bce_slope(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _mean_slope(output.sigmoid() - value, mask)


def _softmax_slope(output: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if output.shape[1] == 0:
        return output
    share_BR = output.masked_fill(~mask, torch.finfo(output.dtype).min).softmax(1)
    positive_BR = value * mask
    num_positives_B1 = positive_BR.sum(1, keepdim=True)
    return (share_BR * num_positives_B1 - positive_BR) / num_positives_B1.clamp(min=1)
