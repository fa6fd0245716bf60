"""Item-to-item neighbours: for each item, the items that it predicts, and how strongly.

    together(i, j) = n_ij / √(n_ii n_jj)       n_ij: users who took both among their first rows
    next(i, j)     = m_ij / √(m_i· m_·j)       m_ij: times that j was taken soon after i

The first is the cosine of item-based nearest neighbours (Deshpande and Karypis, TOIS 2004), here
over the first rows of each user alone: a new user has only these, and what a user takes years later
has little to do with them. The second is directed, a Markov chain over a window (Shani, Heckerman
and Brafman, JMLR 2005), and predicts the next item. For each item only the K strongest neighbours
are kept, so that popular items do not fill every list.

Legend: U users, I items, B users, S support rows (padded), E entries of a table.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from recmeta.tasks.arrays import IntArray, offsets_of, positions_of
from recmeta.tasks.task_set import Ragged

MOST_PAIRS = 100_000_000
"""The most pairs of rows from which a table is counted: if there are more, some users are left out
at random."""
PAIRS_AT_ONCE = 4_000_000
"""The pairs in memory at once: all pairs with some items as targets."""
MOST_CELLS = 2**23
"""A table of the pairs of some items with at most this many cells is counted in place."""
Items = npt.NDArray[np.integer]
"""Item numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """A sparse matrix (I, I): the strength with which each item, by row, predicts others, by
    column."""

    offsets: torch.Tensor
    """int64 (I + 1,), the entries of item i are those from offsets[i] to before offsets[i + 1]."""
    item: torch.Tensor
    """int64 (E,), the predicted item of each entry, ascending within a row."""
    weight: torch.Tensor
    """float32 (E,), the strength of each entry; positive."""

    @property
    def num_items(self) -> int:
        """I"""
        return len(self.offsets) - 1

    def evidence(self, item_BS: torch.Tensor, weight_BS: torch.Tensor) -> torch.Tensor:
        """Return (B, I) the evidence of users' rows for every item: the sum over a user's rows of
        the row's weight times the strength with which its item predicts the other.

        Args:
            item_BS: int64; any number is allowed where the weight is 0.
            weight_BS: the weight of each row; 0 where padded.
        """
        num_users = len(item_BS)
        found = self.weight.new_zeros(num_users * self.num_items)
        user_n, place_n = (weight_BS != 0).nonzero(as_tuple=True)
        item_n = item_BS[user_n, place_n]
        length_n = self.offsets[item_n + 1] - self.offsets[item_n]
        row_e = torch.repeat_interleave(length_n)
        within_e = (
            torch.arange(len(row_e), device=row_e.device) - (length_n.cumsum(0) - length_n)[row_e]
        )
        entry_e = self.offsets[item_n][row_e] + within_e
        weight_e = self.weight[entry_e] * weight_BS[user_n, place_n].to(self.weight)[row_e]
        found.index_add_(0, user_n[row_e] * self.num_items + self.item[entry_e], weight_e)
        return found.view(num_users, self.num_items)

    def strength(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return (...) the strength with which items predict others, int64 (...) each, or 0 where
        there is no entry."""
        key, key_E = source * self.num_items + target, self._key_E
        if not len(key_E):
            return torch.zeros_like(key, dtype=self.weight.dtype)
        place = torch.searchsorted(key_E, key).clamp(max=len(key_E) - 1)
        return torch.where(key_E[place] == key, self.weight[place], 0)

    @functools.cached_property
    def _key_E(self) -> torch.Tensor:
        """Whole numbers that order the entries by row, then by column."""
        return torch.repeat_interleave(self.offsets.diff()) * self.num_items + self.item

    def renumbered(self, number_I: IntArray, num_items: int) -> "Neighbours":
        """Return the table over another catalogue.

        Args:
            number_I: each item's number in that catalogue, or -1 where it has none.
            num_items: the number of items of that catalogue.
        """
        lengths = (self.offsets[1:] - self.offsets[:-1]).cpu().numpy()
        source = number_I[np.repeat(np.arange(self.num_items), lengths)]
        target = number_I[self.item.cpu().numpy()]
        kept = (source >= 0) & (target >= 0)
        order = np.lexsort((target[kept], source[kept]))
        return _table(
            source[kept][order],
            target[kept][order],
            self.weight.cpu().numpy()[kept][order],
            num_items,
        ).to(self.weight.device)

    def to(self, device: torch.device) -> "Neighbours":
        """Return the table on a device."""
        return Neighbours(self.offsets.to(device), self.item.to(device), self.weight.to(device))


def taken_together(
    rows: Ragged, num_items: int, num_neighbours: int, first_rows: int | None, seed: int
) -> Neighbours:
    """Return how often items were taken by the same users, as cosines.

    Args:
        rows: per training user, in time order where there are times.
        num_neighbours: K.
        first_rows: the number of first rows of each user that count, or None for all.
        seed: draws the users who are left out where there are too many pairs.
    """
    length_U = rows.lengths.astype(np.int64)
    if first_rows is not None:
        length_U = np.minimum(length_U, first_rows)
    rows = _fewer_users(rows, length_U * (length_U - 1), seed)
    if first_rows is not None:
        rows = rows.first(first_rows)
    length_N, first_N = rows.lengths[rows.task], rows.offsets[rows.task] - rows.offsets[0]

    def pairs(row_n: IntArray) -> tuple[Items, Items]:
        within = positions_of(length_N[row_n])
        source = rows.item[np.repeat(first_N[row_n], length_N[row_n]) + within]
        return source, np.repeat(rows.item[row_n], length_N[row_n])

    users_I = np.maximum(np.bincount(rows.item, minlength=num_items), 1)
    return _strongest(rows, length_N, pairs, users_I, users_I, num_items, num_neighbours)


def taken_next(
    rows: Ragged, num_items: int, num_neighbours: int, window: int, seed: int
) -> Neighbours:
    """Return how often an item was taken within the next rows of a user after another, divided by
    the root of the product of how often each side occurs in such pairs.

    Args:
        rows: per training user, in time order.
        num_neighbours: K.
        window: the number of rows after an item that count as next.
        seed: draws the users who are left out where there are too many pairs.
    """
    rows = _fewer_users(rows, rows.lengths.astype(np.int64) * window, seed)
    place_N = rows.position
    from_I, to_I = np.ones(num_items), np.ones(num_items)
    for lag in range(1, window + 1):
        source, target = rows.item[:-lag], rows.item[lag:]
        counts = (place_N[lag:] >= lag) & (source != target)
        from_I += np.bincount(source[counts], minlength=num_items)
        to_I += np.bincount(target[counts], minlength=num_items)

    def pairs(row_n: IntArray) -> tuple[Items, Items]:
        lag_n = np.minimum(place_N[row_n], window)
        source = rows.item[np.repeat(row_n, lag_n) - 1 - positions_of(lag_n)]
        return source, np.repeat(rows.item[row_n], lag_n)

    num_N = np.minimum(place_N, window)
    return _strongest(rows, num_N, pairs, from_I, to_I, num_items, num_neighbours)


def most_similar(
    similarity_JJ: torch.Tensor, item_J: IntArray, num_items: int, num_neighbours: int
) -> Neighbours:
    """Return the K largest positive entries of each column of a dense matrix.

    Args:
        similarity_JJ: the similarities of some of the items; the diagonal is read as 0.
        item_J: their numbers, ascending.
        num_items: the number of items of the catalogue.
        num_neighbours: K.
    """
    num_neighbours = min(num_neighbours, len(item_J))
    some_JJ = similarity_JJ.clone().fill_diagonal_(0.0)
    weight_KJ, place_KJ = some_JJ.topk(num_neighbours, dim=0)
    weight = weight_KJ.numpy().reshape(-1)
    source = item_J[place_KJ.numpy().reshape(-1)]
    target = np.tile(item_J, num_neighbours)
    kept = np.flatnonzero(weight > 0)
    kept = kept[np.lexsort((target[kept], source[kept]))]
    return _table(source[kept], target[kept], weight[kept], num_items)


def _fewer_users(rows: Ragged, pairs_U: IntArray, seed: int) -> Ragged:
    """Return the rows of as many users, drawn at random, as the limit on pairs allows."""
    if pairs_U.sum() <= MOST_PAIRS:
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))
    kept = order[np.cumsum(pairs_U[order]) <= MOST_PAIRS]
    return rows.take(np.sort(kept))


def _strongest(
    rows: Ragged,
    num_N: IntArray,
    pairs: Callable[[IntArray], tuple[Items, Items]],
    from_I: npt.NDArray[np.number],
    to_I: npt.NDArray[np.number],
    num_items: int,
    num_neighbours: int,
) -> Neighbours:
    """Return for each item the K others that are paired with it most often, after normalisation. It
    counts the pairs of some items at a time, so that no others are in memory.

    Args:
        num_N: the number of pairs with each row as target.
        pairs: returns the pairs with some rows as targets: the items of the sources and targets.
        from_I, to_I: the number of times that each item is a source, and a target, for the
            normalisation.
    """
    by_item_N = np.argsort(rows.item, kind="stable")
    offsets_I = offsets_of(np.bincount(rows.item, minlength=num_items))
    until_I = offsets_of(num_N[by_item_N])[offsets_I]  # pairs of the items before each
    kept, first = [_Pairs.none()], 0
    while first < num_items:
        last = int(np.searchsorted(until_I, until_I[first] + PAIRS_AT_ONCE, side="right")) - 1
        last = max(first + 1, last)
        source, target = pairs(by_item_N[offsets_I[first] : offsets_I[last]])
        differ = source != target
        counted = _counted(source[differ], target[differ] - first, last - first, num_items)
        kept.append(counted.shifted(first).strongest(from_I, to_I, num_neighbours))
        first = last
    found = _Pairs(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    order = np.lexsort((found.target, found.source))
    return _table(found.source[order], found.target[order], found.weight[order], num_items)


class _Pairs(NamedTuple):
    """Distinct pairs of items, with the number of times that each occurs, or its strength."""

    source: IntArray
    target: IntArray
    weight: npt.NDArray[Any]

    @classmethod
    def none(cls) -> "_Pairs":
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def shifted(self, first: int) -> "_Pairs":
        """Return the same with the targets numbered from `first`."""
        return self._replace(target=self.target + first)

    def strongest(
        self, from_I: npt.NDArray[np.number], to_I: npt.NDArray[np.number], num_neighbours: int
    ) -> "_Pairs":
        """Return the K pairs of each target that are strongest after normalisation."""
        norm = np.sqrt(from_I[self.source] * to_I[self.target])
        weight = (self.weight / norm).astype(np.float32)
        order = np.lexsort((self.source, -weight, self.target))
        place = positions_of(np.bincount(self.target))
        kept = order[place < num_neighbours]
        return _Pairs(self.source[kept], self.target[kept], weight[kept])


def _counted(source: Items, target: Items, num_targets: int, num_items: int) -> _Pairs:
    """Return the number of times that each pair occurs."""
    key = target.astype(np.int64) * num_items + source
    if num_targets * num_items <= MOST_CELLS:
        count = np.bincount(key, minlength=num_targets * num_items)
        key = np.flatnonzero(count)
        return _Pairs(key % num_items, key // num_items, count[key])
    key, count = np.unique(key, return_counts=True)
    return _Pairs(key % num_items, key // num_items, count)


def _table(
    source: IntArray,
    target: IntArray,
    weight: npt.NDArray[np.floating],
    num_items: int,
) -> Neighbours:
    """Return a table of entries that are sorted by source, then by target."""
    offsets = offsets_of(np.bincount(source, minlength=num_items))
    return Neighbours(
        torch.from_numpy(offsets),
        torch.from_numpy(np.array(target, np.int64)),
        torch.from_numpy(np.array(weight, np.float32)),
    )
