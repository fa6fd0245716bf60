"""The median of a rating on a scale of a few levels, as a smooth function of mean and spread.

The mean absolute error is least at the median, and the median of a rating with L levels is a level.
It changes from level to level where the mean passes a threshold: a staircase, which is smoothed so
that thresholds and slopes can be learned with all other parameters.

    median(m, s) = lowest + step · Σ_k σ((m − t_k) / τ_k(s))

Legend: B users, R rows, T = L - 1 thresholds.
"""

import math

import numpy as np
import torch

from recmeta.metalearn.learner import Params
from recmeta.tasks import scratch
from recmeta.tasks.arrays import Float32Array

THRESHOLD = "median.threshold"
LOG_SOFTNESS = "median.log_softness"
BY_SPREAD = "median.softness_by_spread"
FIRST_SOFTNESS = 0.28
"""In steps of the scale. With this softness the staircase is nearly the diagonal, so that training
starts from the mean."""
LEAST_LOG_SOFTNESS = math.log(0.02)
"""Keeps the order of items that are far from a threshold within float32's resolution."""
MOST_LOG_SOFTNESS = 3.0
MOST_LEVELS = 20
"""A scale with more levels counts as one without steps."""


def count_levels(values: Float32Array, value_range: tuple[float, float]) -> int | None:
    """Return the number of evenly spaced levels of a scale, or None if it has no steps.

    Args:
        values: some values that occur; the least distance between two of them is the step.
        value_range: lowest and highest value.
    """
    known = np.unique(np.append(scratch.distinct(values), value_range)).astype(np.float64)
    if len(known) < 2:
        return None
    step = np.diff(known).min()
    places = (known - known[0]) / step
    if places[-1] > MOST_LEVELS - 0.5 or not np.allclose(places, places.round(), atol=1e-3):
        return None
    return int(places[-1].round()) + 1


def top_share(values: Float32Array) -> float:
    """Return the share of the most frequent value among all values, or 0 if there are none."""
    if len(values) == 0:
        return 0.0
    some = scratch.thinned(values)
    _, counts = np.unique(some, return_counts=True)
    return float(counts.max() / len(some))


class MedianOfLevels:
    """The median as pure functions of the parameters. The object holds only the scale."""

    def __init__(self, lowest: float, highest: float, num_levels: int) -> None:
        self.lowest = lowest
        self.step = (highest - lowest) / (num_levels - 1)
        self.num_thresholds = num_levels - 1

    def init_params(self) -> Params:
        """Return thresholds halfway between the levels, all equally soft."""
        halfway_T = torch.arange(self.num_thresholds) + 0.5
        return {
            THRESHOLD: halfway_T,
            LOG_SOFTNESS: torch.full((self.num_thresholds,), math.log(FIRST_SOFTNESS)),
            BY_SPREAD: torch.zeros(self.num_thresholds),
        }

    def of(self, params: Params, mean_BR: torch.Tensor, spread_BR: torch.Tensor) -> torch.Tensor:
        """Return the medians (B, R), in units of the means and between the lowest and the highest
        level.

        Args:
            spread_BR: standard deviations of the values, positive.
        """
        stairs_BR = self.margins(params, mean_BR, spread_BR).sigmoid().sum(-1)
        return self.lowest + self.step * stairs_BR

    def margins(
        self, params: Params, mean_BR: torch.Tensor, spread_BR: torch.Tensor
    ) -> torch.Tensor:
        """Return how far above each threshold the means are, (B, R, T), as logits."""
        place_BR1 = ((mean_BR - self.lowest) / self.step)[..., None]
        log_spread_BR1 = (spread_BR / self.step).log()[..., None]
        log_softness = params[LOG_SOFTNESS] + params[BY_SPREAD] * log_spread_BR1
        softness = log_softness.clamp(LEAST_LOG_SOFTNESS, MOST_LOG_SOFTNESS).exp()
        return (place_BR1 - params[THRESHOLD]) / softness
