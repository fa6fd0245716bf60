"""Values at ranks of a column in pieces, against sorting it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.features.order_statistics import values_at

LEAST, MOST = -(2**63), 2**63 - 1
number = st.one_of(
    st.integers(-3, 3),
    st.integers(2**40 - 3, 2**40 + 3),
    st.sampled_from([LEAST, LEAST + 1, MOST - 1, MOST]),
    st.integers(LEAST, MOST),
)


@given(st.lists(number, min_size=1, max_size=80), st.integers(1, 5), st.data())
def test_they_are_those_of_the_sorted_column(
    numbers: list[int], num_pieces: int, data: st.DataObject
) -> None:
    column = np.array(numbers, np.int64)
    rank = st.integers(0, len(numbers) - 1)
    ranks = np.array(sorted(data.draw(st.lists(rank, max_size=6))), np.int64)
    found = values_at(ranks, lambda: np.array_split(column, num_pieces))
    assert found.tolist() == np.sort(column)[ranks].tolist()


@pytest.mark.parametrize("scale", [1, 1_000_000, 10**13])
def test_they_are_numpys_quantiles(scale: int) -> None:
    column = np.random.default_rng(0).integers(0, 400_000, 30_000) * scale
    share = np.linspace(0, 1, 64)[1:-1]
    ranks = np.floor((len(column) - 1) * share).astype(np.int64)
    found = values_at(ranks, lambda: np.array_split(column, 7))
    assert found.tolist() == np.quantile(column, share, method="lower").tolist()
