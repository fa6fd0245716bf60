"""Distinct ids, their counts and their numbers, against Python's own counter."""

from collections import Counter

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta.tasks.splits.ids import IdCounts, IdNumbers, count_ids

text = st.one_of(st.text(max_size=4), st.sampled_from(["a", "b", "ä", ""]))
columns = st.lists(st.tuples(st.lists(text, max_size=20), st.booleans()), max_size=5)


def as_arrow(ids: list[str], encoded: bool) -> pa.Array:
    column = pa.array(ids, pa.string())
    return column.dictionary_encode() if encoded else column


def counted(columns: list[tuple[list[str], bool]]) -> tuple[IdCounts, list[np.ndarray]]:
    kept: list[np.ndarray] = []
    return count_ids((as_arrow(*column) for column in columns), kept.append), kept


@settings(deadline=None)
@given(columns)
def test_each_id_is_there_once_with_its_count(columns: list[tuple[list[str], bool]]) -> None:
    ids = [name for column, _ in columns for name in column]
    found, _ = counted(columns)
    assert found.ids.dtype == pl.String
    assert found.ids.to_list() == sorted(set(ids), key=str.encode)
    assert dict(zip(found.ids, found.counts.tolist(), strict=True)) == Counter(ids)


@settings(deadline=None)
@given(columns)
def test_kept_codes_and_looked_up_numbers_name_the_ids(
    columns: list[tuple[list[str], bool]],
) -> None:
    found, kept = counted(columns)
    numbers = IdNumbers(found.ids)
    for (ids, encoded), codes in zip(columns, kept, strict=True):
        assert found.ids.gather(found.number_of_code[codes]).to_list() == ids
        assert found.ids.gather(numbers.of(as_arrow(ids, encoded))).to_list() == ids


def test_an_id_of_a_dictionary_without_a_row_does_not_count() -> None:
    found = count_ids([pa.array(["x", "y", "x"]).dictionary_encode().slice(2)])
    assert (found.ids.to_list(), found.counts.tolist()) == (["x"], [1])
    assert found.number_of_code.tolist() == [0, -1]
    assert found.number_of_code.dtype == np.int32  # a number for every user is kept


def test_two_columns_share_no_dictionary() -> None:
    one = count_ids([pa.array(["x", "y", "x"])])
    other = count_ids([pa.array(["z"])])
    assert (one.ids.to_list(), one.counts.tolist()) == (["x", "y"], [2, 1])
    assert (other.ids.to_list(), other.counts.tolist()) == (["z"], [1])


def test_many_batches_are_one_column() -> None:
    names = (np.random.default_rng(0).zipf(1.3, 300_000) % 50_000).astype(str)
    batches = np.array_split(names, 33)
    found = count_ids(pa.array(batch.tolist()) for batch in batches)
    assert dict(zip(found.ids, found.counts.tolist(), strict=True)) == Counter(names.tolist())
