"""The items' statistics before they are rounded, which can be added to and subtracted from.

Values are sums of float32 numbers in float64. Where all values are multiples of one power of two
and the sums are below 2^53 times it, every sum is exact, in whichever order it was added
(`can_be_exact`): so what is added and subtracted is what would be added up anew, to the last bit.

Legend: T snapshots, I items, N events, V distinct values.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmeta import schema
from recmeta.tasks.arrays import Float32Array, Float64Array, IntArray
from recmeta.tasks.item_files import ItemStatistics, mapped, write_table
from recmeta.workspace import Folder

FILE = "tallies.arrow"
_MANTISSA = 24
"""Bits of a float32's."""
_EXACT = 2.0**53
"""From here on, whole numbers in float64 have gaps."""

ComplexArray = npt.NDArray[np.complex128]


@dataclasses.dataclass(frozen=True)
class ItemTallies:
    """How many events each item had before each snapshot, and the sum of their values."""

    time: IntArray
    """(T,) microseconds since 1970, rising."""
    tally: ComplexArray
    """(T, I) the number, and as the imaginary part the sum: one access to memory for both."""

    def rounded(self) -> ItemStatistics:
        """Return the statistics as models read them."""
        num_users, sum_values = (
            part.astype(np.float32) for part in (self.tally.real, self.tally.imag)
        )
        return ItemStatistics(self.time, num_users, sum_values)

    def of_items(self, number_I: npt.NDArray[np.int32] | None, num_items: int) -> ComplexArray:
        """Return the tallies (T, num_items) once items have other numbers, and some are new.

        Args:
            number_I: (I,) the new number of each item; None where it is the same.
        """
        if number_I is None:
            return self.tally
        found = np.zeros((len(self.time), num_items), np.complex128)
        found[:, number_I] = self.tally
        return found


def write_tallies(folder: Folder, tallies: ItemTallies) -> None:
    """Write the tallies, a row per snapshot."""
    flat: Float64Array = np.ascontiguousarray(tallies.tally).view(np.float64).reshape(-1)
    width = 2 * tallies.tally.shape[1]
    columns = {
        schema.TIMESTAMP: pa.array(tallies.time, pa.int64()),
        "tally": pa.FixedSizeListArray.from_arrays(pa.array(flat), width),
    }
    write_table(folder, FILE, pa.table(columns))


def read_tallies(folder: Folder) -> ItemTallies:
    """Read what `write_tallies` wrote, from a folder that is whole."""
    table = mapped(folder, FILE)
    flat: Float64Array = table["tally"].combine_chunks().flatten().to_numpy()
    shape = (table.num_rows, -1)
    return ItemTallies(table[schema.TIMESTAMP].to_numpy(), flat.view(np.complex128).reshape(shape))


def can_be_exact(value_V: Float32Array, most_events: float) -> bool:
    """Return whether the sum of as many events as any item has is exact in float64.

    Args:
        value_V: the distinct values.
        most_events: of any item.
    """
    value_V = value_V[value_V != 0].astype(np.float64)
    if not len(value_V):
        return True
    mantissa, exponent = np.frexp(np.abs(value_V))
    whole = (mantissa * 2**_MANTISSA).astype(np.int64)
    step = ((whole & -whole) * 2.0 ** (exponent.astype(np.float64) - _MANTISSA)).min()
    return bool(np.abs(value_V).max() * most_events <= _EXACT * step)
