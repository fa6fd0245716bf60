"""Arrays in temporary files hold what arrays in memory hold, and take no memory for it."""

import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmeta import schema
from recmeta.evaluation.baselines.averages import item_mean_user_bias
from recmeta.evaluation.baselines.averages.item_mean_user_bias import ItemMeanUserBias
from recmeta.evaluation.measuring.values import describe
from recmeta.metalearn.factors import factorisation
from recmeta.metalearn.factors.content_prior import ContentConfig, ContentRegression
from recmeta.metalearn.factors.factorisation import FactorisationConfig, factorise
from recmeta.metalearn.heads import neighbours
from recmeta.metalearn.heads.median import count_levels
from recmeta.tasks import item_history, scratch, task_set
from recmeta.tasks.episodes import EpisodeConfig, epoch
from recmeta.tasks.item_files import (
    HistoryPiece,
    Items,
    ItemStatistics,
    write_history,
    write_items,
    write_statistics,
)
from recmeta.tasks.task_set import Ragged, TaskSet, TaskSetSpec, write_shard, write_spec
from recmeta.workspace import Folder, sealing

NUM_ITEMS = 50
ROWS_EACH = 12


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let arrays of more than a few numbers be in files, and be worked on a few at a time."""
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 16)
    monkeypatch.setattr(scratch, "AT_ONCE", 3)
    monkeypatch.setattr(task_set, "TASKS_AT_ONCE", 2)


with_fixture = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
numbers = st.lists(st.integers(0, 6), max_size=40)


@with_fixture
@given(parts=st.lists(numbers, max_size=5))
def test_an_array_has_the_numbers_of_its_pieces(on_disk: None, parts: list[list[int]]) -> None:
    pieces = [np.array(part, np.int32) for part in parts]
    expected = np.concatenate([np.zeros(0, np.int32), *pieces])
    found = scratch.joined(iter(pieces), np.int32)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scratch.counts(found, 7), np.bincount(expected, minlength=7))
    np.testing.assert_array_equal(scratch.distinct(found), np.unique(expected))
    order_N, offsets = scratch.sorted_by(found, 7)
    np.testing.assert_array_equal(order_N, np.argsort(expected, kind="stable"))
    np.testing.assert_array_equal(np.diff(offsets), np.bincount(expected, minlength=7))


def test_an_array_in_a_file_keeps_what_is_written_to_it(
    on_disk: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    table = scratch.empty((1000, 3), np.float64)
    table[:] = np.arange(3000).reshape(1000, 3)
    another = scratch.empty(1000, np.float64)  # which gives the pages of the first back
    another[:] = 1.0
    assert torch.from_numpy(table).sum() == 2999 * 3000 / 2
    assert another.sum() == 1000
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_shares_of_many_values_come_from_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.tile(np.array([1, 2, 3, 4, 5], np.float32), 2000)
    whole = describe(values, (1.0, 5.0))
    monkeypatch.setattr(scratch, "MOST_VALUES", 3_000)
    assert len(scratch.thinned(values)) == 2_500
    assert describe(values, (1.0, 5.0)) == whole
    assert count_levels(values, (1.0, 5.0)) == 5


@with_fixture
@given(rows=st.lists(st.tuples(numbers, numbers), max_size=9), num_rows=st.integers(0, 4))
def test_rows_of_many_tasks_are_cut_and_joined_as_those_of_few(
    on_disk: None, rows: list[tuple[list[int], list[int]]], num_rows: int
) -> None:
    def side(lists: list[list[int]]) -> Ragged:
        return Ragged.from_lists(lists, [[i % 3.0 for i in row] for row in lists])

    def same(found: Ragged, expected: list[list[int]]) -> None:
        np.testing.assert_array_equal(found.offsets, side(expected).offsets)
        np.testing.assert_array_equal(found.item, side(expected).item)
        np.testing.assert_array_equal(found.value, side(expected).value)

    support, query = side([s for s, _ in rows]), side([q for _, q in rows])
    same(support.followed_by(query), [s + q for s, q in rows])
    same(support.first(num_rows), [s[:num_rows] for s, _ in rows])
    same(support.taken(1.0), [[i for i in s if i % 3 >= 1] for s, _ in rows])


def written(folder: Folder, num_users: int) -> TaskSet:
    """Return a task set of users who have as many rows each, in shards of five hundred users."""
    generator = np.random.default_rng(0)
    num_shards = num_users // 500
    time = np.sort(generator.integers(0, 10**9, num_users * ROWS_EACH))
    value = generator.integers(1, 6, len(time)).astype(np.float32)
    with sealing(folder) as place:
        for number in range(num_shards):
            sides = {}
            for name, length in (("support", 8), ("query", 4)):
                offsets = pa.array(np.arange(501) * length, pa.int32())
                size = 500 * length
                columns = {
                    f"{name}_item": generator.integers(0, NUM_ITEMS, size).astype(np.int32),
                    f"{name}_value": generator.integers(1, 6, size).astype(np.float32),
                    f"{name}_counted": np.ones(size, np.bool_),
                }
                sides |= {
                    column: pa.ListArray.from_arrays(offsets, pa.array(values))
                    for column, values in columns.items()
                }
            first = number * 500
            plain = {
                schema.USER_ID: pa.array([f"u{first + n:06d}" for n in range(500)]),
                schema.CUT_TIME: pa.array(generator.integers(0, 10**9, 500)),
                schema.SNAPSHOT: pa.array(np.zeros(500, np.int32)),
                schema.STATE: pa.array(["warm"] * 500),
            }
            write_shard(place, "train", number, pa.table(plain | sides))
        ids = pa.array([f"i{n:02d}" for n in range(NUM_ITEMS)])
        always = np.full(NUM_ITEMS, schema.ALWAYS)
        nothing = pa.table({schema.ITEM_ID: ids}).drop_columns([schema.ITEM_ID])
        write_items(place, Items(ids, np.arange(NUM_ITEMS, dtype=np.int32), always, nothing))
        write_statistics(place, ItemStatistics.empty(NUM_ITEMS))
        item = generator.integers(0, NUM_ITEMS, len(time)).astype(np.int32)
        num_files = write_history(place, [HistoryPiece(item, time, value)])
        spec = TaskSetSpec(
            objective="rating",
            value_range=(1.0, 5.0),
            num_items=NUM_ITEMS,
            num_tasks={"train": num_users, "dev": 0, "test": 0},
            num_shards={"train": num_shards, "dev": 0, "test": 0},
            num_interactions=num_users * ROWS_EACH,
            temporal=True,
            num_history_files=num_files,
        )
        write_spec(place, spec)
    return TaskSet(folder)


def reads_what_training_reads(tasks: TaskSet) -> None:
    """Read and count whatever training reads and counts of all rows of its users."""
    spec, train = tasks.spec, tasks.tasks("train")
    rows = train.rows
    next(epoch(train, EpisodeConfig(), np.random.default_rng(0), in_order=True))
    assert len(rows.item) == spec.num_interactions
    assert count_levels(rows.value, spec.value_range) == 5
    describe(rows.value, spec.value_range)
    ItemMeanUserBias.fit(train, spec.num_items, spec.value_range)
    content = ContentRegression((), {}, spec.num_items, ContentConfig(), 0, None)
    factorise(rows, content, spec.num_items, FactorisationConfig(num_factors=2, sweeps=2), seed=0)
    neighbours.taken_together(rows, spec.num_items, 5, 4, seed=0)
    neighbours.taken_next(rows, spec.num_items, 5, 4, seed=0)
    history = tasks.history()
    history.counts_of(train.cut_time[:100], rows.item[:100], 1.0)
    history.now(None)


def peak_bytes(work: Callable[[], None]) -> int:
    """Return the most memory that numpy and Python held."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_training_holds_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "AT_ONCE", 2**12)
    monkeypatch.setattr(scratch, "MOST_VALUES", 2**12)
    monkeypatch.setattr(task_set, "TASKS_AT_ONCE", 250)
    monkeypatch.setattr(factorisation, "USERS_AT_ONCE", 250)
    monkeypatch.setattr(item_history, "EVENTS_AT_ONCE", 2**12)
    monkeypatch.setattr(item_mean_user_bias, "USERS_AT_ONCE", 250)
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 10_000)
    few = written(Folder.at(tmp_path / "few"), 2_500)
    many = written(Folder.at(tmp_path / "many"), 10_000)
    in_memory = peak_bytes(lambda: reads_what_training_reads(few))
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 2**14)
    of_few = peak_bytes(lambda: reads_what_training_reads(TaskSet(few.folder)))
    of_many = peak_bytes(lambda: reads_what_training_reads(TaskSet(many.folder)))
    # The measure sees rows in memory: items and values of both sides, and events.
    assert in_memory > of_few + 10 * few.spec.num_interactions
    per_row = (of_many - of_few) / (many.spec.num_interactions - few.spec.num_interactions)
    # A user's profile, cut time, state and offsets, numbers of rows, and the order of an epoch.
    assert per_row < 100 / ROWS_EACH
