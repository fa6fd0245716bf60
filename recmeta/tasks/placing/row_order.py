"""The order of rows by several keys, by sorting one number per row."""

from typing import Any

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import IntArray

_BITS = 64


def order_by(*keys: npt.NDArray[Any]) -> IntArray:
    """Return the positions (N,) of rows sorted by the keys, of which the first counts most.

    The leading bits of the keys, as many as fit into 64 bits, become one number, since sorting one
    column of integers is several times faster than sorting by several columns. The few rows with
    equal numbers are then sorted among themselves by all keys.

    Args:
        keys: (N,) integers that are not negative.
    """
    packed = np.zeros(len(keys[0]), np.uint64)
    room, exact = _BITS, True
    for key in keys:
        bits = int(key.max(initial=0)).bit_length()
        taken = min(bits, room)
        if taken:  # a shift by all 64 bits is undefined
            if taken < _BITS:
                packed <<= np.uint64(taken)
            packed |= key.astype(np.uint64) >> np.uint64(bits - taken)
        exact = exact and taken == bits
        room -= taken
    # A log consists of sorted runs, one per ingest, from which a merge sort benefits.
    order = np.argsort(packed, kind="stable").astype(np.int64, copy=False)
    return order if exact else _settle_ties(order, packed, keys)


def _settle_ties(
    order: IntArray,
    packed: npt.NDArray[np.uint64],
    keys: tuple[npt.NDArray[Any], ...],
) -> IntArray:
    in_order = packed[order]
    equal = in_order[1:] == in_order[:-1]
    tied = np.flatnonzero(np.concatenate([[False], equal]) | np.concatenate([equal, [False]]))
    rows = order[tied]
    order[tied] = rows[np.lexsort([*(key[rows] for key in reversed(keys)), packed[rows]])]
    return order
