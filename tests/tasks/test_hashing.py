"""Splits must not move between machines or versions, so the hash is pinned."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.tasks.hashing import unit_hash

MASK = 2**64 - 1
PINNED = [0.0958972648647447, 0.1041924941401906, 0.07525321118220774, 0.32878041053898355]


def mixed(x: int) -> int:
    """Return splitmix64 of a number, in plain integers."""
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def slow_hash(text: str, seed: int) -> float:
    """Return FNV-1a over the bytes, mixed with the seed, one byte after the other."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return (mixed((state + mixed(seed)) & MASK) >> 11) / 2**53


@given(st.lists(st.text(max_size=12), max_size=20), st.integers(0, 2**32))
def test_it_equals_a_loop_over_bytes(ids: list[str], seed: int) -> None:
    found = unit_hash(pa.array(ids, pa.string()), seed)
    assert found.tolist() == [slow_hash(text, seed) for text in ids]


def test_pinned_values() -> None:
    assert unit_hash(pa.array(["1", "user-42", "", "ünïcode"]), 0).tolist() == PINNED


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_arrow_kinds_and_slices_hash_alike(kind: pa.DataType) -> None:
    ids = pa.array(["a", "bb", "", "dddd"], kind)
    assert (
        unit_hash(ids.slice(1), 7).tolist() == unit_hash(pa.array(["bb", "", "dddd"]), 7).tolist()
    )


def test_it_is_uniform_and_seeds_are_independent() -> None:
    ids = pa.array([str(n) for n in range(20_000)])
    one, other = unit_hash(ids, 0), unit_hash(ids, 1)
    for share in (one, other):
        assert share.min() >= 0
        assert share.max() < 1
        counts = np.histogram(share, bins=20, range=(0, 1))[0]
        assert (np.abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
