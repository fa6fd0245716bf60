"""Names are found the same way however few are asked for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.metalearn.tensors.lookup import FEW, Lookup

NAMES = st.text(max_size=5)


@given(st.lists(NAMES, unique=True, max_size=300), st.lists(NAMES | st.none(), max_size=6))
def test_every_name_is_found_at_its_place(names: list[str], asked: list[str | None]) -> None:
    asked = asked + names[:2]
    found = Lookup(pa.array(names, pa.string())).numbers_of(pa.array(asked, pa.string()))
    expected = [names.index(name) if name in names else -1 for name in asked]
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize("num_asked", [1, 5])
def test_few_and_many_names_agree(num_asked: int) -> None:
    known = pa.array([str(n) for n in range(3 * FEW)])  # above and below the limit
    asked = pa.array(["7", None, "x", "190", "0"][:num_asked])
    assert Lookup(known).numbers_of(asked).tolist() == [7, -1, -1, 190, 0][:num_asked]


def test_other_types_are_read_as_text() -> None:
    assert Lookup(pa.array(["3", "4"])).numbers_of(pa.array([4, 5], pa.int32())).tolist() == [1, -1]


def test_nothing_is_known_or_asked() -> None:
    assert Lookup(pa.array([], pa.string())).numbers_of(pa.array(["a"])).tolist() == [-1]
    assert Lookup(pa.array(["a"])).numbers_of(pa.array([], pa.string())).tolist() == []
