"""The values at given ranks of a column that is too long to sort: it is read a few times, and never
held in memory.

Legend: R ranks, N values.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import IntArray
from recmeta.tasks.threads import in_threads

DIGIT_BITS = 16
"""The column is read once for each group of this many bits of its range, and once for the range."""


def values_at(ranks: IntArray, column: Callable[[], Iterable[IntArray]]) -> IntArray:
    """Return the values (R,) that would stand at these positions (R,) of the sorted column.

    This is a radix selection: the values' leading digits are counted, which determines the leading
    digit of each requested value; then the next digits are counted, only of the values that share
    its prefix.

    Args:
        ranks: the ranks from 0, ascending.
        column: returns the column, the same each time, in pieces of any length; N > ranks.max().
    """
    extremes = list(in_threads(_extremes, (piece for piece in column() if len(piece))))
    lowest, highest = min(low for low, _ in extremes), max(high for _, high in extremes)
    num_digits = -(-(highest - lowest).bit_length() // DIGIT_BITS)
    prefix = np.zeros(len(ranks), np.uint64)  # the known digits of each requested value
    within = ranks.copy()  # the rank of each among the values with its prefix
    for digit in reversed(range(num_digits)):
        known, group = np.unique(prefix, return_inverse=True)
        counts = _count_digits(column(), lowest, digit, known)
        totals = counts.cumsum(1)
        digits = [
            np.searchsorted(totals[g], r, side="right") for g, r in zip(group, within, strict=True)
        ]
        found = np.array(digits, np.int64)
        within -= totals[group, found] - counts[group, found]
        prefix = (prefix << np.uint64(DIGIT_BITS)) | found.astype(np.uint64)
    # Two's complement is correct even if the range does not fit into positive int64.
    return (prefix + np.uint64(lowest % 2**64)).astype(np.int64)


def _count_digits(
    pieces: Iterable[IntArray], lowest: int, digit: int, known: npt.NDArray[np.uint64]
) -> IntArray:
    """Return the counts of each digit after each known prefix, (prefixes, digits)."""
    size = 2**DIGIT_BITS
    last_digit = np.uint64(size - 1)
    counts = np.zeros(len(known) * size, np.int64)
    ends_so = np.zeros(size, np.bool_)
    ends_so[known & last_digit] = True

    def work(piece: IntArray) -> IntArray:
        rest = (piece.view(np.uint64) - np.uint64(lowest % 2**64)) >> np.uint64(digit * DIGIT_BITS)
        prefix = rest >> np.uint64(DIGIT_BITS)
        near = np.flatnonzero(ends_so.take((prefix & last_digit).view(np.int64)))
        rest, prefix = rest.take(near), prefix.take(near)  # leaves few values to look up
        place = np.minimum(np.searchsorted(known, prefix), len(known) - 1)
        slot = place * size + (rest & last_digit).view(np.int64)
        slots: IntArray = slot.compress(known[place] == prefix)
        return slots

    for slots in in_threads(work, pieces):
        if len(slots) < len(counts):
            np.add.at(counts, slots, 1)
        else:
            counts += np.bincount(slots, minlength=len(counts))
    return counts.reshape(len(known), size)


def _extremes(piece: IntArray) -> tuple[int, int]:
    return int(piece.min()), int(piece.max())
