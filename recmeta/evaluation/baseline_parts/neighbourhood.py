"""Parts of item-to-item models: the choice of items that have weights, and Gram matrices over
users.

Legend: U users, I items of the catalogue, J items with weights, B users to score.
"""

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
import torch

from recmeta.evaluation.baseline import BaselineSearch, Config
from recmeta.metalearn.numerics.memory import free_memory
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged

MAX_ITEMS = 6000
"""Candidates are tried with weights between all pairs of at most this many items, those with most
rows. 6000 squared in float32 are 144 MB."""
MOST_ITEMS = 12_000
"""No baseline has weights between more items, however much memory there is: an inverse of this size
takes half a minute on one core, and the time grows with the cube."""
MATRICES = 5
"""The most square matrices of float32 that a fit holds at once."""
SHARE_OF_MEMORY = 0.5
"""The share of the free memory that these matrices may take."""
USERS_AT_ONCE = 1024
ITEMS_AT_ONCE = 1024
SPARSE_COST = 320
"""The cost of one product of a sparse Gram matrix, in products of a dense one."""


@dataclasses.dataclass(frozen=True)
class KnownItems:
    """The items that have weights, and the place of each among them."""

    item_J: IntArray
    place_I: IntArray
    """(I,) the position in `item_J`, or -1 for an item without weights."""

    @classmethod
    def of(cls, rows: Ragged, num_items: int, max_items: int = MAX_ITEMS) -> "KnownItems":
        """Return the items with most rows, at least one; of equals, those with the lower
        numbers."""
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


def most_items(num_items: int) -> int:
    """Return the number of items whose weights fit into memory, from 6000 to 12,000."""
    bytes_each = SHARE_OF_MEMORY * free_memory() / (4 * MATRICES)
    return min(num_items, MOST_ITEMS, max(MAX_ITEMS, int(bytes_each**0.5)))


def more_items(search: BaselineSearch, best: Config) -> Sequence[Config]:
    """Return the best configuration so far with as large a `max_items` as memory allows, if the
    catalogue is larger than the present one."""
    most = most_items(search.num_items)
    if search.grid == "published" or most <= best.max_items:
        return []
    return [dataclasses.replace(best, max_items=most)]


def co_occurrences(known: KnownItems, rows: Ragged) -> torch.Tensor:
    """Return (J, J) the number of users who have both items: the Gram matrix of ones."""
    place_N = known.place_I[rows.item]
    is_known = place_N >= 0
    cell_N = np.unique(rows.task[is_known] * len(known) + place_N[is_known])
    user_N, place_N = cell_N // len(known), cell_N % len(known)
    num_pairs = float((np.bincount(user_N, minlength=len(rows)).astype(np.float64) ** 2).sum())
    if num_pairs * SPARSE_COST > len(rows) * len(known) ** 2:
        return gram(known, rows, np.ones(len(rows.item)))
    by_user_UJ = _sparse(user_N, place_N, (len(rows), len(known)))
    order = np.argsort(place_N, kind="stable")
    user_N, place_N = user_N[order], place_N[order]
    total = torch.empty((len(known), len(known)), dtype=torch.float32)
    for first in range(0, len(known), ITEMS_AT_ONCE):
        last = min(first + ITEMS_AT_ONCE, len(known))
        of = slice(*np.searchsorted(place_N, [first, last]))
        some = _sparse(place_N[of] - first, user_N[of], (last - first, len(rows)))
        with warnings.catch_warnings():  # PyTorch warns that the intermediate format is in beta
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            total[first:last] = torch.sparse.mm(some, by_user_UJ).to_dense()
    return total


def _sparse(row_N: IntArray, column_N: IntArray, shape: tuple[int, int]) -> torch.Tensor:
    places = torch.from_numpy(np.stack([row_N, column_N]))
    ones = torch.ones(len(row_N), dtype=torch.float32)
    return torch.sparse_coo_tensor(places, ones, shape, check_invariants=False)


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
