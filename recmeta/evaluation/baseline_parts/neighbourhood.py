"""What item-to-item models share: which items have weights, and Gram matrices over users.

Legend: U users, I items of the catalogue, J items with weights, B users asked about.
"""

import dataclasses

import numpy as np
import torch

from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged

MAX_ITEMS = 6000
"""Weights between all pairs of more items are neither kept nor inverted: the most met ones have
them. 6000 squared in float32 are 144 MB."""
USERS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class KnownItems:
    """The items that have weights, and where each stands among them."""

    item_J: IntArray
    place_I: IntArray
    """(I,) position in `item_J`; -1 for an item without weights."""

    @classmethod
    def of(cls, rows: Ragged, num_items: int, max_items: int = MAX_ITEMS) -> "KnownItems":
        """Return the items with most rows, at least one; of equals the lower number."""
        count_I = np.bincount(rows.item, minlength=num_items)
        order = np.argsort(-count_I, kind="stable")[:max_items]
        item_J = np.sort(order[count_I[order] > 0])
        place_I = np.full(num_items, -1, np.int64)
        place_I[item_J] = np.arange(len(item_J))
        return cls(item_J, place_I)

    def __len__(self) -> int:
        return len(self.item_J)

    def dense(self, rows: Ragged, value_N: Float64Array) -> torch.Tensor:
        """Return (B, J) the rows' values as a matrix; rows of other items are dropped."""
        place_N = self.place_I[rows.item]
        known = place_N >= 0
        matrix = torch.zeros((len(rows), len(self)), dtype=torch.float32)
        values = torch.from_numpy(value_N[known].astype(np.float32))
        matrix[torch.from_numpy(rows.task[known]), torch.from_numpy(place_N[known])] = values
        return matrix


def gram(known: KnownItems, rows: Ragged, value_N: Float64Array) -> torch.Tensor:
    """Return (J, J) the sum over users of the outer product of a user's values with themselves."""
    total = torch.zeros((len(known), len(known)), dtype=torch.float32)
    for start in range(0, len(rows), USERS_AT_ONCE):
        users = np.arange(start, min(start + USERS_AT_ONCE, len(rows)))
        part = rows.take(users)
        first, last = rows.offsets[users[0]], rows.offsets[users[-1] + 1]
        matrix_UJ = known.dense(part, value_N[first:last])
        total.addmm_(matrix_UJ.T, matrix_UJ)
    return total
