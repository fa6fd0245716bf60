"""Names of array types, and rows of many owners laid end to end.

Legend: N rows of all owners, M owners.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


def offsets_of(length_M: npt.NDArray[np.integer] | Sequence[int]) -> IntArray:
    """Return (M + 1,) the offset at which each owner's rows begin among all rows, and the end of
    the last owner's."""
    offsets = np.zeros(len(length_M) + 1, np.int64)
    np.cumsum(length_M, out=offsets[1:])
    return offsets


def positions_of(length_M: npt.NDArray[np.integer]) -> IntArray:
    """Return (N,) the place of each row among its owner's rows."""
    first_M = offsets_of(length_M)
    return np.arange(first_M[-1], dtype=np.int64) - first_M[:-1].repeat(length_M)
