"""Rows of many users, written to disk as they are read, and read back one part of the users at a
time.

Each block is sorted by a hash of the user and written to a file of its own. A part of the users is
a range of hashes, and so a slice of every file; the number of parts can be decided when everything
is written.
"""

import os

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from recmeta import schema
from recmeta.tasks.hashing import unit_hash

_PLACE = "place"
"""The column of hashes; between 0 and 1."""


class UserParts:
    """Tables of the same columns, `user_id` among them, in a folder of this machine."""

    def __init__(self, folder: str) -> None:
        """
        Args:
            folder: to be made; whoever owns it deletes it.
        """
        os.makedirs(folder)
        self._folder = folder
        self._blocks: list[pa.Table] = []
        self.num_rows = 0

    def add(self, rows: pa.Table) -> None:
        """Write a block of rows."""
        place = unit_hash(rows[schema.USER_ID].combine_chunks(), 0)
        order = np.argsort(place, kind="stable")
        block = rows.take(pa.array(order)).append_column(_PLACE, pa.array(place[order]))
        path = os.path.join(self._folder, f"{len(self._blocks):06d}.arrow")
        with ipc.new_file(path, block.schema) as writer:
            writer.write_table(block)
        self._blocks.append(ipc.open_file(pa.memory_map(path)).read_all())
        self.num_rows += rows.num_rows

    def part(self, number: int, num_parts: int) -> pa.Table:
        """Return the rows of one part of the users, those of a user in the order in which they
        came. At least one block must have been added, which may be empty."""
        slices = []
        for block in self._blocks:
            place = block[_PLACE].to_numpy()
            first, last = np.searchsorted(place, np.array([number, number + 1]) / num_parts)
            slices.append(block.slice(first, last - first).drop_columns([_PLACE]))
        return pa.concat_tables(slices).combine_chunks()
