"""Arrays that need not fit into memory: large ones are in a temporary file, which is mapped.

The operating system writes the pages of such a file to the disk and takes their memory back
whenever something else needs it. Whenever another array is made, the pages of all earlier ones are
given back; they return when they are read. The file has no name, so that it ends with the array,
even if the process is killed. It is in the folder for temporary files, which the environment
variable TMPDIR names; a folder that is itself in memory saves nothing.

Legend: N numbers, n those of one piece.
"""

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import offsets_of, positions_of

MOST_IN_MEMORY = 2**25
"""The most bytes of an array that stays in memory."""
AT_ONCE = 2**22
"""The numbers of a long array that are worked on at once."""

MOST_VALUES = 2**24
"""The most values of which shares and quantiles are made."""


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array whose numbers are yet to be written.

    Raises:
        OSError: if the disk has no room for it.
    """
    num_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if num_bytes <= MOST_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a signal later
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        else:
            file.truncate(num_bytes)
        return _mapped(file, num_bytes, dtype).reshape(shape)


class Growing:
    """An array that is written piece by piece."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._pieces: list[npt.NDArray[Any]] = []
        self._num_bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, piece_n: npt.NDArray[Any]) -> None:
        """Add numbers at the end. The piece itself may be kept and must not change any more.

        Raises:
            OSError: if the disk has no room for it.
        """
        piece_n = np.ascontiguousarray(piece_n, self._dtype)
        self._num_bytes += piece_n.nbytes
        self._pieces.append(piece_n)
        if self._file is None and self._num_bytes > MOST_IN_MEMORY and len(self._pieces) > 1:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        if self._file is not None:
            for piece in self._pieces:
                self._file.write(piece.data)
            self._pieces = []

    def done(self) -> npt.NDArray[Any]:
        """Return (N,) the numbers of all pieces; a single piece is returned as it is."""
        if self._file is not None:
            with self._file as file:
                file.flush()
                return _mapped(file, self._num_bytes, self._dtype)
        if len(self._pieces) == 1:
            return self._pieces[0]
        return np.concatenate([np.zeros(0, self._dtype), *self._pieces])


def joined(pieces: Iterable[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return (N,) the numbers of all pieces, one piece after the other."""
    array = Growing(dtype)
    for piece_n in pieces:
        array.append(piece_n)
    return array.done()


def pieces(array_N: npt.NDArray[Any]) -> Iterable[npt.NDArray[Any]]:
    """Yield the numbers of a long array, `AT_ONCE` at a time."""
    for first in range(0, len(array_N), AT_ONCE):
        yield array_N[first : first + AT_ONCE]


def counts(number_N: npt.NDArray[np.integer], num_different: int) -> npt.NDArray[np.int64]:
    """Return how often each of the numbers from 0 to `num_different`, exclusive, occurs."""
    total = np.zeros(num_different, np.int64)
    for piece_n in pieces(number_N):
        total += np.bincount(piece_n, minlength=num_different)
    return total


def sorted_by(
    number_N: npt.NDArray[np.integer], num_different: int
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]:
    """Return the positions (N,) of numbers from 0 to `num_different`, exclusive, in rising order,
    equal ones in their own order, and the offset at which each number's positions begin, with the
    end of the last ones."""
    offsets = offsets_of(counts(number_N, num_different))
    place_N = empty(len(number_N), np.int32 if len(number_N) < 2**31 else np.int64)
    begin, first = offsets[:-1].copy(), 0
    for piece_n in pieces(number_N):
        order_n = np.argsort(piece_n, kind="stable")
        length = np.bincount(piece_n, minlength=num_different)
        place_N[begin[piece_n[order_n]] + positions_of(length)] = first + order_n
        begin += length
        first += len(piece_n)
    return place_N, offsets


def distinct(value_N: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the different values, rising."""
    found = value_N[:0]
    for piece_n in pieces(value_N):
        found = np.union1d(found, piece_n)
    return found


def thinned(value_N: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values or, of more than 16 million, some at equal distances: for shares and
    quantiles, to which more would add nothing."""
    return value_N[:: max(1, -(-len(value_N) // MOST_VALUES))]


def give_back() -> None:
    """Give the memory of the mapped arrays' pages back to the operating system."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for earlier in list(_maps):
            earlier.madvise(mmap.MADV_DONTNEED)


_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""The files that are mapped now."""


def _mapped(file: IO[bytes], num_bytes: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the content of a file, which stays there as long as the array does."""
    give_back()
    found = mmap.mmap(file.fileno(), num_bytes)
    _maps.add(found)
    return np.frombuffer(found, dtype)
