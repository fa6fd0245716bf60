"""Rows on the disk by the hash of their user, so that all rows of a key are read back together.

FOLDER/NAME-0.arrow …    one block each: a record batch per partition, in the order of the rows
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

from recmeta.logs.checking.conflicts import KEY
from recmeta.schema import USER_ID

PARTITIONS = 64
"""The number of partitions of a spill. Small ones are read together, and a large one is read a
share at a time."""
_PARTITION = "partition"


class Spill:
    """Rows on the disk, block by block, each block divided by the hash of the rows' user."""

    def __init__(self, folder: str, name: str) -> None:
        self._place = f"{folder}/{name}"
        self._names: list[str] = []
        self.sizes: npt.NDArray[np.int64] = np.zeros((0, PARTITIONS), np.int64)
        """Rows of each block and partition."""

    def add(self, rows: pl.DataFrame) -> None:
        """Write a block of rows, with a column `user_id` and any others."""
        partition = (rows[USER_ID].hash() % PARTITIONS).cast(pl.UInt8).alias(_PARTITION)
        ordered = rows.with_columns(partition).sort(_PARTITION, maintain_order=True)
        cuts = np.searchsorted(ordered[_PARTITION].to_numpy(), np.arange(PARTITIONS + 1))
        # If strings were views, a part would be written with the characters of the whole.
        plain = ordered.drop(_PARTITION).to_arrow(compat_level=pl.CompatLevel.oldest())
        self._names = plain.schema.names
        with ipc.new_file(self._path(len(self.sizes)), plain.schema) as file:
            for start, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
                part = plain.slice(start, end - start).combine_chunks()
                batches = part.to_batches() or [pa.RecordBatch.from_pylist([], schema=plain.schema)]
                file.write_batch(batches[0])
        self.sizes = np.concatenate([self.sizes, np.diff(cuts)[np.newaxis]])

    def read(self, block: int, partitions: Sequence[int], columns: list[str]) -> pl.DataFrame:
        """Return columns of the rows of partitions of a block, in their order; only these are
        read."""
        fields = [self._names.index(name) for name in columns]
        options = ipc.IpcReadOptions(included_fields=fields)
        with pa.OSFile(self._path(block)) as file:
            reader = ipc.open_file(file, options=options)
            found = pa.Table.from_batches([reader.get_batch(p) for p in partitions])
            return pl.DataFrame(pl.from_arrow(found)).select(columns)

    def _path(self, block: int) -> str:
        return f"{self._place}-{block}.arrow"


def share_of_keys(share: int, num_shares: int) -> pl.Expr:
    """Whether a row's key belongs to one of several shares of about the same size."""
    hashes = [pl.col(name).hash(seed) for seed, name in enumerate(KEY, start=1)]
    mixed = hashes[0]
    for other in hashes[1:]:
        mixed = mixed ^ other
    return mixed % num_shares == share
