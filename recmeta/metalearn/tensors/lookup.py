"""The numbers of known names, for repeated look-ups."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmeta.tasks.arrays import IntArray

FEW = 64
"""At most this many names are looked up in a cached dictionary; so are more names, if the known
ones are this many times as many."""


class Lookup:
    """The place of each name among known names.

    Arrow's `index_in` reads all known names at each call. A request for ten items must not pay for
    a catalogue of a million.
    """

    def __init__(self, names: pa.Array) -> None:
        """
        Args:
            names: distinct strings.
        """
        self.names = names

    def numbers_of(self, wanted: pa.Array) -> IntArray:
        """Return each wanted name's place among the known names, (N,), or -1 if it is null or not
        known."""
        if wanted.type != pa.string():
            wanted = wanted.cast(pa.string())
        if len(wanted) <= FEW or len(wanted) * FEW < len(self.names):
            places = self._places
            found = (places.get(name, -1) for name in wanted.to_pylist())
            return np.fromiter(found, np.int64, len(wanted))
        numbers = pc.fill_null(pc.index_in(wanted, self.names), -1)
        return np.asarray(numbers.to_numpy(), np.int64)

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names.to_pylist())}
