"""Shards hold the tasks of the pieces in their order, and every row says the right thing."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta import schema
from recmeta.tasks.placing import shards as module
from recmeta.tasks.placing.placed_rows import NO_TIME, PLACES, PlacedRows, concatenate
from recmeta.tasks.placing.shards import shards, task_table
from recmeta.tasks.task_set import TASK_COLUMNS

task = st.tuples(st.integers(0, len(PLACES) - 1), st.integers(0, 3), st.integers(1, 3))


def placed(tasks: list[tuple[int, int, int]], seed: int = 0) -> PlacedRows:
    """Return tasks of these places, support and query sizes, with rising times."""
    place, num_support, num_query = (np.array([t[n] for t in tasks], np.int32) for n in range(3))
    rng = np.random.default_rng(seed)
    size = int((num_support + num_query).sum())
    return PlacedRows(
        place=place.astype(np.uint8),
        user=np.arange(len(tasks), dtype=np.int32),
        num_rows=num_support + num_query,
        num_support=num_support,
        num_query=num_query,
        time=np.sort(rng.integers(0, 50, size)),
        item=rng.integers(0, 9, size).astype(np.int32),
        value=rng.integers(1, 6, size).astype(np.float32),
    )


@given(st.lists(st.lists(task, max_size=7), max_size=5), st.integers(1, 4))
def test_shards_are_the_same_tasks_cut_anew(
    pieces: list[list[tuple[int, int, int]]], size: int
) -> None:
    given_pieces = [placed(tasks, seed) for seed, tasks in enumerate(pieces)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TASKS_PER_SHARD", size)
        found = list(shards(given_pieces))
    total = sum(map(len, pieces))
    assert [len(shard) for shard in found[:-1]] == [size] * (len(found) - 1)
    assert len(found) == max(1, -(-total // size))
    whole, expected = concatenate(found), concatenate(given_pieces)
    for name in ("place", "user", "num_support", "num_query", "time", "item", "value"):
        assert getattr(whole, name).tolist() == getattr(expected, name).tolist()


@given(st.lists(task, max_size=8), st.booleans(), st.sets(st.integers(0, 50), max_size=4))
def test_a_task_says_of_each_row_what_is_known_of_it(
    tasks: list[tuple[int, int, int]], temporal: bool, moments: set[int]
) -> None:
    times = np.array([schema.ALWAYS, *sorted(moments), schema.END_OF_TIME])
    rows = placed(tasks)
    table = task_table(rows, times, temporal=temporal)
    assert set(table.column_names) == set(TASK_COLUMNS)
    assert table.schema.field("query_item").type == pa.list_(pa.int32())
    start = 0
    for found, (place, num_support, num_query) in zip(table.to_pylist(), tasks, strict=True):
        ends = [start, start + (num_support if temporal else num_query)]
        ends.append(start + num_support + num_query)
        first, second = (list(range(*ends[n : n + 2])) for n in range(2))
        support, query = (first, second) if temporal else (second, first)
        start = ends[-1]
        cut = rows.time[query].min() if temporal else schema.END_OF_TIME
        known = max(n for n, moment in enumerate(times) if moment <= cut)
        assert (found["cut_time"], found["snapshot"]) == (cut, known)
        assert found["state"] == PLACES[place].state
        for side, positions in (("support", support), ("query", query)):
            assert found[f"{side}_item"] == rows.item[positions].tolist()
            assert found[f"{side}_value"] == rows.value[positions].tolist()
            counted = (
                [rows.time[n] < times[known] for n in positions]
                if temporal
                else [PLACES[place].split == "train"] * len(positions)
            )
            assert found[f"{side}_counted"] == counted
        assert not (temporal and any(found["query_counted"]))


def test_a_split_without_tasks_has_one_empty_shard() -> None:
    (only,) = shards([])
    table = task_table(only, np.array([0, NO_TIME]), temporal=True)
    assert table.num_rows == 0
    assert table.schema.field("support_counted").type == pa.list_(pa.bool_())
