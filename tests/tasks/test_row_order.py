"""The order of rows by several keys, against sorting tuples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.tasks.placing.row_order import order_by

key = st.one_of(st.integers(0, 3), st.integers(0, 2**31 - 1))
long_key = st.one_of(st.integers(0, 3), st.integers(2**62, 2**62 + 3), st.integers(0, 2**63 - 1))


@given(st.lists(st.tuples(key, long_key, long_key, key), max_size=60))
def test_rows_stand_as_their_tuples_do(rows: list[tuple[int, int, int, int]]) -> None:
    """Also where the keys have more bits than one number holds."""
    kinds = (np.int32, np.int64, np.int64, np.int32)
    keys = [np.array([row[n] for row in rows], kind) for n, kind in enumerate(kinds)]
    order = order_by(*keys)
    assert sorted(order.tolist()) == list(range(len(rows)))
    assert [rows[n] for n in order] == sorted(rows)


def test_full_64_bits_are_one_key() -> None:
    keys = np.array([2**64 - 1, 0, 2**63, 2**63 - 1], np.uint64)
    assert order_by(keys).tolist() == [1, 3, 2, 0]
    assert order_by(keys, np.arange(4)).tolist() == [1, 3, 2, 0]
    assert order_by(np.array([1, 1, 0, 0]), keys).tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("bits", [40, 63])
def test_rows_that_one_number_cannot_tell_apart_are_told_apart(bits: int) -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 3000) << (bits - 1)
    second, third = (rng.integers(0, 2**bits, 3000) & 3 for _ in range(2))
    second[0] = third[0] = 2**bits - 1  # so that their leading bits say nothing of the others
    found = order_by(first, second, third)
    expected = np.lexsort([third, second, first])
    for column in (first, second, third):
        assert (column[found] == column[expected]).all()
