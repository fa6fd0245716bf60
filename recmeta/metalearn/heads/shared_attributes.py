"""How strongly an item predicts others with the same attributes, such as another book of its
author.

    evidence(i, S) = Σ_{s in S} w_s Σ_{v of both s and i} log lift_v
    lift_v = how many times more often two rows of a user share the value v than two rows of
             different users

The lift of a pair of labels is that of association rules (Brin et al., SIGMOD 1997). It is counted
from the training users' rows and shrunk towards the lift of all values of its attribute, so that a
value that few items have is read like the others. Unlike a table of neighbours, it predicts items
that no user has taken yet.

Legend: B users, S support rows (padded), I items, W values of an item (padded), V values.
"""

import dataclasses
import functools
import math
from typing import Self

import numpy as np
import pyarrow as pa
import torch

from recmeta.metalearn.tensors.encoding import Encoder
from recmeta.metalearn.tensors.value_codes import value_codes
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.item_files import Items
from recmeta.tasks.task_set import Ragged

PRIOR_PAIRS = 1.0
"""The number of pairs of rows by which a value's lift is shrunk towards that of its attribute."""
MOST_VALUES = 20_000_000
"""The most values of rows that are counted: if there are more, evenly spaced users are left out."""


@dataclasses.dataclass(frozen=True, eq=False)
class SharedAttributes:
    """The strength with which items predict others through the values that they share."""

    code: torch.Tensor
    """int64 (I, W), the values of each item; 0 where padded."""
    weight: torch.Tensor
    """float32 (V,), the strength with which an item predicts another that shares the value; 0 for
    code 0."""

    @property
    def num_items(self) -> int:
        """I"""
        return len(self.code)

    def evidence(self, item_BS: torch.Tensor, weight_BS: torch.Tensor) -> torch.Tensor:
        """Return (B, I) the evidence of users' rows for every item: the sum over a user's rows of
        the row's weight times the strength with which its item predicts the other.

        Args:
            item_BS: int64; any number is allowed where the weight is 0.
            weight_BS: the weight of each row; 0 where padded.
        """
        evidence_BV = self.by_value(item_BS, weight_BS)
        found_BI = self.weight.new_zeros((len(item_BS), self.num_items))
        for value_I in self._code_WI:  # column by column, because (B, I, W) may be large
            found_BI += evidence_BV.index_select(1, value_I)
        return found_BI

    @functools.cached_property
    def _code_WI(self) -> torch.Tensor:
        """The codes, column by column: what lies together is read several times faster."""
        return self.code.T.contiguous()

    def by_value(self, item_BS: torch.Tensor, weight_BS: torch.Tensor) -> torch.Tensor:
        """Return (B, V) the evidence of users' rows for each value: the evidence for an
        item is the sum over its values."""
        value_BSW = self.code[item_BS]
        counts_BSW = weight_BS.to(self.weight)[..., None].expand(value_BSW.shape)
        evidence_BV = self.weight.new_zeros((len(item_BS), len(self.weight)))
        evidence_BV.scatter_add_(1, value_BSW.flatten(1), counts_BSW.flatten(1))
        return evidence_BV.mul_(self.weight)

    def strength(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return (...) the strength with which items predict others, int64 (...) each, or 0 if they
        share no value."""
        source_W, target_W = self.code[source], self.code[target]
        is_shared_WW = source_W[..., :, None] == target_W[..., None, :]
        return (is_shared_WW.any(-1) * self.weight[source_W]).sum(-1)

    def over(self, code: torch.Tensor) -> "SharedAttributes":
        """Return the table over the items of another catalogue, given by their values."""
        return SharedAttributes(code.to(self.weight.device), self.weight)

    def to(self, device: torch.device) -> "SharedAttributes":
        """Return the table on a device."""
        return SharedAttributes(self.code.to(device), self.weight.to(device))

    @classmethod
    def counted(cls, code: torch.Tensor, field_V: IntArray, rows: Ragged) -> Self:
        """Return the table of lifts counted from the rows of training users.

        Args:
            code: (I, W), see `attribute_codes`.
            field_V: the attribute of each value; that of code 0 is not read.
            rows: per user.
        """
        num_values, code_IW = len(field_V), code.numpy()
        every = math.ceil(len(rows.item) * code_IW.shape[1] / MOST_VALUES)
        if every > 1:
            rows = rows.take(np.arange(0, len(rows), every))
        value_NW = code_IW[rows.item]
        is_known_NW = value_NW > 0
        value, task = value_NW[is_known_NW], np.repeat(rows.task, is_known_NW.sum(1))
        key, times = np.unique(task.astype(np.int64) * num_values + value, return_counts=True)
        together_V = np.bincount(key % num_values, times * (times - 1.0), minlength=num_values)
        # A user has no two rows of the same item.
        num_rows = max(len(rows.item), 1)
        share_I = np.bincount(rows.item, minlength=len(code_IW)) / num_rows
        share_V = np.bincount(value, minlength=num_values) / num_rows
        same_V = np.bincount(
            code_IW.reshape(-1), np.repeat(share_I**2, code_IW.shape[1]), minlength=num_values
        )
        length_U = rows.lengths.astype(np.float64)
        by_chance_V = (length_U * (length_U - 1)).sum() * np.maximum(share_V**2 - same_V, 0)
        together_V[0] = by_chance_V[0] = 0
        met = np.bincount(field_V, together_V) + PRIOR_PAIRS
        expected = np.bincount(field_V, by_chance_V) + PRIOR_PAIRS
        lift_V = (met / expected)[field_V]
        weight_V = np.log((together_V + PRIOR_PAIRS) / (by_chance_V + PRIOR_PAIRS / lift_V))
        weight_V[0] = 0
        return cls(code, torch.from_numpy(np.maximum(weight_V, 0).astype(np.float32)))


def attribute_codes(encoder: Encoder, items: Items) -> tuple[torch.Tensor, IntArray] | None:
    """Return the values (I, W) of items' newest versions and the field (V,) of each value, see
    `value_codes`, or None if the encoder knows no attribute."""
    newest = items.attributes.take(pa.array(items.newest()))
    features = encoder.encode_items(items.item_id, newest)
    code_IW, field_V = value_codes(encoder.item_fields, features, len(items.item_id))
    return (code_IW, field_V) if code_IW.shape[1] else None
