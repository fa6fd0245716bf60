"""The distinct ids of a column, in one pass and in memory that does not grow with its length."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

ROWS_PER_BATCH = 2**21


class IdCounts(NamedTuple):
    """Distinct ids and how often each one is there."""

    ids: pl.Series
    """(I,) sorted; an id's number is the position."""
    counts: npt.NDArray[np.int64]
    """(I,)"""


def count_ids(column: pl.LazyFrame) -> IdCounts:
    """Count the ids of a frame of one column of strings, read as a stream.

    A dictionary that all batches share numbers the ids as they come. A streaming `group_by` would
    put aside rows of all rare ids, and so take memory by the row.
    """
    dictionary = pl.Categories.random()
    codes = column.select(pl.all().cast(pl.Categorical(dictionary)).to_physical())
    counts = np.zeros(0, np.int64)
    for batch in codes.collect_batches(
        chunk_size=ROWS_PER_BATCH, maintain_order=False, engine="streaming"
    ):
        more = np.bincount(batch.to_series().to_numpy(), minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    ids = dictionary.to_series().head(len(counts))
    order = ids.arg_sort()
    return IdCounts(ids.gather(order), counts[order.to_numpy()])
