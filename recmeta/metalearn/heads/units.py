"""A model's outputs in units of the value that users gave, and the expected values derived from
them.

A learner computes on values of mean 0 and standard deviation 1. For implicit feedback its outputs
are logits, which have no units and stay as they are.
"""

import dataclasses

import numpy as np
import torch

from recmeta.metalearn.heads.uncertainty import Uncertainty
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.task_set import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValueUnits:
    """Converts outputs, tensors of any shape, to values of the same shape."""

    objective: Objective
    value_range: tuple[float, float]
    """The smallest and the largest value."""
    mean: float
    """The mean of the values of the meta-train users."""
    scale: float
    """Their standard deviation."""
    uncertainty: Uncertainty | None
    """Turns the learner's output into an expected value. If None, the output is the expected
    value."""

    def to_values(self, output: torch.Tensor) -> Float32Array:
        """Return the learner's output in units of the value, clipped to the range of values."""
        return self._clipped(self.unclipped(output))

    def to_expected(self, output: torch.Tensor) -> Float32Array:
        """Return the expected value, clipped to the range of values.

        Args:
            output: the learner's output by which items are ranked.
        """
        return self._clipped(self.expected_unclipped(output))

    def unclipped(self, output: torch.Tensor) -> Float32Array:
        """Return the learner's output in units of the value, not clipped to the range."""
        result: Float32Array = output.detach().cpu().float().numpy()
        if self.objective == "rating":
            result = result * self.scale + self.mean
        return result

    def expected_unclipped(self, output: torch.Tensor) -> Float32Array:
        """Return the expected value, not clipped to the range: effects are differences, which
        clipping would cut off."""
        value = self.unclipped(output)
        known = self.uncertainty
        return value if known is None else known.expected(value).astype(np.float32)

    @property
    def expected_per_output(self) -> float:
        """The increase of the expected value for an increase of the output by 1, in units of the
        value."""
        scale = self.scale if self.objective == "rating" else 1.0
        return scale if self.uncertainty is None else scale * self.uncertainty.slope

    def _clipped(self, values: Float32Array) -> Float32Array:
        if self.objective == "rating":
            return np.clip(values, *self.value_range).astype(np.float32)
        return values
