"""Numbers of known names: made once, asked often."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmeta.tasks.arrays import IntArray

FEW = 64
"""So few are looked up in a table that is kept; so are others, where there are this many times as
many names."""


class Lookup:
    """The place of each name among those that are known.

    Arrow's `index_in` reads all names at each call. A request that asks for ten must not pay for a
    catalogue of a million.
    """

    def __init__(self, names: pa.Array) -> None:
        """
        Args:
            names: distinct strings.
        """
        self.names = names

    def numbers_of(self, asked: pa.Array) -> IntArray:
        """Return each one's place among the names, (N,); -1 where it is not known, or null."""
        if asked.type != pa.string():
            asked = asked.cast(pa.string())
        if len(asked) <= FEW or len(asked) * FEW < len(self.names):
            places = self._places
            found = (places.get(name, -1) for name in asked.to_pylist())
            return np.fromiter(found, np.int64, len(asked))
        numbers = pc.fill_null(pc.index_in(asked, self.names), -1)
        return np.asarray(numbers.to_numpy(), np.int64)

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names.to_pylist())}
