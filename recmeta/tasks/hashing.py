"""Stable hashes of ids: an id falls into the same split on every machine and in every version."""

import numpy as np
import pyarrow as pa

from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.episodes import splitmix64


def unit_hash(ids: pa.Array, seed: int) -> Float64Array:
    """Return a number in [0, 1) for each string: FNV-1a over its UTF-8 bytes, mixed with the seed.

    It is vectorised over ids; the loop runs over byte positions, up to the longest id.
    """
    binary = ids.cast(pa.large_binary())
    _, offsets_buffer, data_buffer = binary.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[binary.offset : binary.offset + len(ids) + 1]
    data = (
        np.frombuffer(data_buffer, np.uint8)
        if data_buffer is not None and data_buffer.size
        else np.zeros(1, np.uint8)
    )
    lengths = np.diff(offsets)
    state = np.full(len(ids), 0xCBF29CE484222325, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(int(lengths.max(initial=0))):
            inside = lengths > place
            byte = data[offsets[:-1][inside] + place].astype(np.uint64)
            state[inside] = (state[inside] ^ byte) * np.uint64(0x100000001B3)
        mixed = splitmix64(state + splitmix64(np.array([seed], np.uint64)))
    shares: Float64Array = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    return shares
