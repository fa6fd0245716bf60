"""Distinct ids and their counts, against Python's own counter."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta.tasks.splits import id_counts
from recmeta.tasks.splits.id_counts import count_ids


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=4), st.sampled_from(["a", "b", "ä", ""])), max_size=60))
def test_each_id_is_there_once_with_its_count(ids: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_counts, "ROWS_PER_BATCH", 7)
        found = count_ids(pl.LazyFrame({"id": ids}, schema={"id": pl.String}))
    assert found.ids.dtype == pl.String
    assert found.ids.to_list() == sorted(set(ids), key=str.encode)
    assert dict(zip(found.ids, found.counts.tolist(), strict=True)) == Counter(ids)


def test_two_columns_share_no_dictionary() -> None:
    one = count_ids(pl.LazyFrame({"id": ["x", "y", "x"]}))
    other = count_ids(pl.LazyFrame({"id": ["z"]}))
    assert (one.ids.to_list(), one.counts.tolist()) == (["x", "y"], [2, 1])
    assert (other.ids.to_list(), other.counts.tolist()) == (["z"], [1])


def test_many_batches_are_one_column() -> None:
    numbers = np.random.default_rng(0).zipf(1.3, 300_000) % 50_000
    expected = Counter(numbers.astype(str).tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_counts, "ROWS_PER_BATCH", 9_000)
        found = count_ids(pl.LazyFrame({"id": pl.Series(numbers).cast(pl.String)}))
    assert dict(zip(found.ids, found.counts.tolist(), strict=True)) == expected
