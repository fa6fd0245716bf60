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
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from recmeta.tasks.arrays import IntArray, offsets_of, positions_of
from recmeta.tasks.task_set import Ragged

MOST_PAIRS = 100_000_000
"""The most pairs of rows from which a table is counted: if there are more, some users are left out
at random."""
PAIRS_AT_ONCE = 20_000_000
MOST_CELLS = 2**25
"""A table of all pairs of items with at most this many cells is counted in place."""


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


class _Counts(NamedTuple):
    """How often pairs of items occur."""

    source: IntArray
    target: IntArray
    times: IntArray


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
    if first_rows is not None:
        rows = rows.first(first_rows)
    length_U = rows.lengths.astype(np.int64)
    rows = _fewer_users(rows, length_U * (length_U - 1), seed)
    counted = _counted(
        (_pairs_of_users(some) for some in _parts(rows, rows.lengths.astype(np.int64) ** 2)),
        num_items,
    )
    users_I = np.maximum(np.bincount(rows.item, minlength=num_items), 1)
    return _strongest(counted, users_I, users_I, num_items, num_neighbours)


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
    counted = _counted((_pairs_in_order(rows, lag) for lag in range(1, window + 1)), num_items)
    from_I, to_I = np.ones(num_items), np.ones(num_items)
    from_I += np.bincount(counted.source, counted.times, minlength=num_items)
    to_I += np.bincount(counted.target, counted.times, minlength=num_items)
    return _strongest(counted, from_I, to_I, num_items, num_neighbours)


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


def _parts(rows: Ragged, pairs_U: IntArray) -> list[Ragged]:
    """Return the rows in parts of consecutive users, each with about a fixed number of pairs."""
    part_U = np.cumsum(pairs_U) // PAIRS_AT_ONCE
    return [rows.take(np.flatnonzero(part_U == part)) for part in np.unique(part_U)]


def _pairs_of_users(rows: Ragged) -> tuple[IntArray, IntArray]:
    """Return every ordered pair of different rows of a user, as items."""
    length_N = rows.lengths[rows.task]
    source = np.repeat(rows.item.astype(np.int64), length_N)
    first_N = np.repeat(rows.offsets[:-1], rows.lengths)
    within = np.arange(len(source)) - np.repeat(np.cumsum(length_N) - length_N, length_N)
    target = rows.item[np.repeat(first_N, length_N) + within].astype(np.int64)
    return source, target


def _pairs_in_order(rows: Ragged, lag: int) -> tuple[IntArray, IntArray]:
    """Return the pairs of a row and a later row of the same user at a given distance, as items."""
    item, task = rows.item.astype(np.int64), rows.task
    same = task[:-lag] == task[lag:]
    return item[:-lag][same], item[lag:][same]


def _counted(pairs: Iterable[tuple[IntArray, IntArray]], num_items: int) -> _Counts:
    """Return the number of times that each pair of different items occurs."""
    found: tuple[IntArray, IntArray] = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    waiting, num_waiting = [], 0
    for source, target in pairs:
        differ = source != target
        waiting.append(source[differ] * num_items + target[differ])
        num_waiting += len(waiting[-1])
        if num_waiting >= PAIRS_AT_ONCE:
            found = _merged(found, np.concatenate(waiting), num_items)
            waiting, num_waiting = [], 0
    if waiting:
        found = _merged(found, np.concatenate(waiting), num_items)
    key, count = found
    return _Counts(key // num_items, key % num_items, count)


def _merged(
    found: tuple[IntArray, IntArray], key: IntArray, num_items: int
) -> tuple[IntArray, IntArray]:
    """Return distinct keys, in order, and their counts, after adding further keys."""
    if num_items**2 <= MOST_CELLS:
        count = np.bincount(key, minlength=num_items**2)
        count[found[0]] += found[1]
        key = np.flatnonzero(count)
        return key, count[key]
    more, count = np.unique(key, return_counts=True)
    if not len(found[0]):
        return more, count
    key, place = np.unique(np.concatenate([found[0], more]), return_inverse=True)
    total = np.bincount(place, np.concatenate([found[1], count])).astype(np.int64)
    return key, total


def _strongest(
    counted: _Counts,
    from_I: npt.NDArray[np.number],
    to_I: npt.NDArray[np.number],
    num_items: int,
    num_neighbours: int,
) -> Neighbours:
    """Return the K largest entries of each column after normalisation."""
    source, target = counted.source, counted.target
    weight = (counted.times / np.sqrt(from_I[source] * to_I[target])).astype(np.float32)
    order = np.lexsort((source, -weight, target))
    place = positions_of(np.bincount(target, minlength=num_items))
    kept = order[place < num_neighbours]
    kept = kept[np.lexsort((target[kept], source[kept]))]
    return _table(source[kept], target[kept], weight[kept], num_items)


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
