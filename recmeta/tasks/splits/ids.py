"""The numbers of ids in columns that repeat them many times.

A log has few ids in many rows: Parquet stores a dictionary of them, and in a table that is sorted
by user the rows of each user are adjacent. So an id is looked up once for many rows.

Legend: N rows, V ids in the column's dictionary, I distinct ids.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from recmeta.tasks.arrays import IntArray
from recmeta.tasks.threads import in_threads


class IdCounts(NamedTuple):
    """Distinct ids and their counts."""

    ids: pl.Series
    """(I,) the ids, sorted. An id's number is its position."""
    counts: IntArray
    """(I,)"""
    number_of_code: npt.NDArray[np.int32]
    """The number of each code under which an id was kept, or -1 if the id has no row."""


class _Encoded(NamedTuple):
    """A column as ids, which may repeat, and the position of each row's id among them."""

    ids: pl.Series
    """(V,) strings, of which some may belong to no row."""
    position: npt.NDArray[np.int32]
    """(N,) positions in `ids`."""


def count_ids(
    columns: Iterable[pa.Array], keep: Callable[[npt.NDArray[np.int32]], None] | None = None
) -> IdCounts:
    """Count the ids in columns of strings, plain or dictionary encoded.

    A dictionary that all columns share assigns codes to ids as they come, so that memory grows only
    with the number of ids.

    Args:
        keep: called with the codes (N,) of each column, so that the same ids need not be looked up
            again.
    """
    dictionary = pl.Categories.random()
    known = pl.Series(
        dtype=pl.Categorical(dictionary)
    )  # keeps the dictionary from one column to the next

    def work(column: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        ids, position = _encoded(column)
        return ids.cast(known.dtype).to_physical().cast(pl.Int32).to_numpy(), position

    counts = np.zeros(0, np.int64)
    for codes, position in in_threads(work, columns):
        more = np.zeros(max(len(counts), int(codes.max(initial=-1)) + 1), np.int64)
        more[: len(counts)] = counts
        np.add.at(more, codes, np.bincount(position, minlength=len(codes)))
        counts = more
        if keep is not None:
            keep(codes.take(position))
    ids = dictionary.to_series().head(len(counts))
    order = ids.arg_sort().to_numpy()
    order = order[counts[order] > 0]
    number_of_code = np.full(len(counts), -1, np.int32)
    number_of_code[order] = np.arange(len(order))
    return IdCounts(ids.gather(order), counts[order], number_of_code)


class IdNumbers:
    """Finds the numbers of ids by one look-up in a dictionary, several times faster than a join or
    a cast to an Enum, which would build the dictionary again for each column."""

    def __init__(self, ids: pl.Series) -> None:
        """Number the ids (I,), which are distinct, by their positions."""
        self._ids = ids.cast(pl.Categorical(pl.Categories.random()))
        self._number_of_code = np.empty(len(ids), np.int32)
        self._number_of_code[self._ids.to_physical().to_numpy()] = np.arange(len(ids))

    def of(self, column: pa.Array) -> npt.NDArray[np.int32]:
        """Return the numbers (N,) of a column of strings, plain or dictionary encoded.

        Every string in the column and in its dictionary must be one of the ids.
        """
        ids, position = _encoded(column)
        codes = ids.cast(self._ids.dtype).to_physical().to_numpy()
        return self._number_of_code.take(codes).take(position)


def _encoded(column: pa.Array) -> _Encoded:
    if isinstance(column, pa.DictionaryArray):
        ids, position = column.dictionary, column.indices.to_numpy()
    else:
        runs = pc.run_end_encode(column)
        ids, ends = runs.values, runs.run_ends.to_numpy()
        position = np.repeat(np.arange(len(ids), dtype=np.int32), np.diff(ends, prepend=0))
    return _Encoded(pl.Series(ids, dtype=pl.String), position)
