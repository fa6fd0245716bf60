"""Counts at any time are those that a loop over the events gives; the files keep every event."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from split_frames import log_dataset

from recmeta import schema
from recmeta.features.item_statistics import StatisticsConfig
from recmeta.steps.parts.task_building import BuildTasksConfig, write_tasks
from recmeta.tasks import item_files as module
from recmeta.tasks import item_history, scratch
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.item_history import DAY, ItemHistory, half_lives
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.workspace import Folder

NUM_ITEMS = 5
START = 1_600_000_000_000_000

event = st.tuples(st.integers(0, 40), st.integers(0, NUM_ITEMS - 1))
events = st.lists(event, max_size=30).map(sorted)
half_life = st.sampled_from([None, 0.01, 1.0, 7.5])
hours = st.one_of(st.integers(-3, 50), st.just(None))


def history_of(hour_and_item: Sequence[tuple[int, int]]) -> ItemHistory:
    time = np.array([START + hour * DAY // 24 for hour, _ in hour_and_item], np.int64)
    item = np.array([item for _, item in hour_and_item], np.int32)
    return ItemHistory(time=time, item=item, num_items=NUM_ITEMS)


def cut_times(hours: Sequence[int | None]) -> npt.NDArray[np.int64]:
    """Return the hours as times; None is the end of time."""
    return np.array(
        [schema.END_OF_TIME if h is None else START + h * DAY // 24 for h in hours], np.int64
    )


def by_hand(
    history: ItemHistory, cut: int, half_life_days: float | None
) -> npt.NDArray[np.float64]:
    assert history.time is not None
    counts = np.zeros(history.num_items)
    now = int(history.time.max(initial=0)) if cut == schema.END_OF_TIME else cut
    for time, item in zip(history.time.tolist(), history.item.tolist(), strict=True):
        if time < cut:
            age = (now - time) / DAY
            counts[item] += 1.0 if half_life_days is None else 0.5 ** (age / half_life_days)
    return counts


@given(events, st.lists(hours, max_size=12), half_life, st.integers(1, 5))
def test_counts_are_those_of_a_loop(
    rows: list[tuple[int, int]], when: list[int | None], half_life: float | None, size: int
) -> None:
    history, cut_B = history_of(rows), cut_times(when)
    expected_BI = np.array([by_hand(history, cut, half_life) for cut in cut_B.tolist()])
    expected_BI = expected_BI.reshape(-1, NUM_ITEMS)
    found_BI = history.counts(cut_B, half_life)
    assert found_BI.dtype == np.float32
    np.testing.assert_allclose(found_BI, expected_BI, rtol=1e-6, atol=1e-30)
    blocks = list(history.blocks(cut_B, half_life, users_at_once=size))
    assert sorted(user for users, _ in blocks for user in users.tolist()) == list(range(len(cut_B)))
    for users_b, counts_bI in blocks:
        assert len(users_b) <= size
        np.testing.assert_array_equal(counts_bI, found_BI[users_b])
    pair_cut, pair_item = np.repeat(cut_B, NUM_ITEMS), np.tile(np.arange(NUM_ITEMS), len(cut_B))
    pairs = history.counts_of(pair_cut, pair_item, half_life)
    np.testing.assert_array_equal(pairs, found_BI.reshape(-1))
    for place in range(len(cut_B)):  # to the last bit, whoever else is asked about
        alone = history.counts(cut_B[place : place + 1], half_life)
        np.testing.assert_array_equal(alone[0], found_BI[place])


def test_items_are_summed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = sorted(zip(rng.integers(0, 900, 500), rng.integers(0, 4, 500), strict=True))
    cut_B = cut_times([*range(0, 1000, 90), None])
    expected = [by_hand(history_of(rows), cut, 3.0) for cut in cut_B.tolist()]
    for at_once in (1, 50, 300):
        monkeypatch.setattr(item_history, "EVENTS_AT_ONCE", at_once)
        np.testing.assert_allclose(history_of(rows).counts(cut_B, 3.0), expected, rtol=1e-6)


def test_numbers_that_are_known() -> None:
    history = history_of([(0, 0), (24, 0), (48, 1)])
    halved = history.counts(cut_times([24, 48, 72]), 1.0)
    np.testing.assert_array_equal(
        halved[:, :2], np.float32([[0.5, 0], [0.25 + 0.5, 0], [0.125 + 0.25, 0.5]])
    )
    np.testing.assert_array_equal(history.now(1.0)[:2], np.float32([0.25 + 0.5, 1.0]))
    np.testing.assert_array_equal(history.now(None)[:2], np.float32([2, 1]))
    assert history.span_days == 2.0


def test_the_shortest_half_life_over_decades_neither_overflows_nor_warns() -> None:
    time = START + np.arange(0, 40 * 365, 5, dtype=np.int64) * DAY
    item = (np.arange(len(time)) % NUM_ITEMS).astype(np.int32)
    history = ItemHistory(time=time, item=item, num_items=NUM_ITEMS)
    cuts = np.array([schema.ALWAYS, time[0], time[1] + 1, time[-1], schema.END_OF_TIME - 1])
    found = history.counts(cuts, 1.0)
    assert np.isfinite(found).all()
    assert found[0].sum() == found[1].sum() == found[4].sum() == 0.0
    np.testing.assert_allclose(found[3, item[-2]], 2.0**-5, rtol=1e-6)
    for place, cut in enumerate(cuts.tolist()):
        pairs = history.counts_of(np.full(NUM_ITEMS, cut), np.arange(NUM_ITEMS), 1.0)
        np.testing.assert_allclose(pairs, found[place], rtol=1e-6, atol=1e-30)


def test_without_times_everything_counts_and_nothing_ages() -> None:
    item = np.array([0, 0, 3], np.int32)
    history = ItemHistory(time=None, item=item, num_items=NUM_ITEMS)
    np.testing.assert_array_equal(history.counts(cut_times([0, None]), None), [[2, 0, 0, 1, 0]] * 2)
    with pytest.raises(ValueError, match="no age"):
        history.now(7.0)
    with pytest.raises(ValueError, match="above 0"):
        history.now(0.0)
    assert half_lives(history) == (None,)
    assert history.span_days == 0.0


def test_half_lives_suit_the_span() -> None:
    assert half_lives(history_of([(0, 0), (36, 0)])) == (None,)
    assert half_lives(history_of([(0, 0), (15 * 24, 0)])) == (1.0, 3.0, 7.0, None)
    assert half_lives(history_of([(0, 0), (800 * 24, 0)]))[-2:] == (365.0, None)


def written(folder: Path, *, snapshots: int = 64, **split: object) -> tuple[TaskSet, pl.DataFrame]:
    log = generate(SyntheticConfig(num_users=80, num_items=40), seed=0)
    rows = pl.DataFrame(log.interactions)
    config = BuildTasksConfig(
        split=SplitConfig(**split), statistics=StatisticsConfig(num_snapshots=snapshots)
    )
    place = Folder.at(folder)
    write_tasks(
        config,
        log_dataset(rows),
        pl.LazyFrame(log.users),
        pl.LazyFrame(log.items),
        place / "tasks",
        text_vectors=place / "text_vectors",
    )
    return TaskSet(place / "tasks"), rows


def as_of_old(task_set: TaskSet) -> TaskSet:
    """Return the task set as an earlier version would have written it: without a history."""
    folder = Folder.at(task_set.folder.path)
    spec = folder.read_json("spec.json")
    del spec["num_history_files"], spec["split"]
    for name in folder.names():
        if name.startswith(("history", "digests")):
            folder.delete(name)
    folder.write_json("spec.json", spec)
    return TaskSet(folder)


@pytest.mark.parametrize("files", [1, 3])
def test_the_files_have_every_row_that_the_statistics_count(
    files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVENTS_PER_FILE", 2**22 if files == 1 else 800)
    task_set, rows = written(tmp_path, split="temporal", support_size=500, query_size=500)
    assert task_set.spec.num_history_files == files
    history = task_set.history()
    expected = rows.sort(schema.TIMESTAMP, schema.ITEM_ID)
    ids = pl.Series(task_set.items().item_id)
    assert history.time is not None
    assert history.time.tolist() == expected[schema.TIMESTAMP].dt.epoch("us").to_list()
    assert ids.gather(history.item).to_list() == expected[schema.ITEM_ID].to_list()
    statistics = task_set.statistics()
    np.testing.assert_array_equal(history.counts(statistics.time, None), statistics.num_users)
    oldest, newest = expected[schema.TIMESTAMP].min(), expected[schema.TIMESTAMP].max()
    assert isinstance(oldest, datetime.datetime)
    assert isinstance(newest, datetime.datetime)
    assert history.span_days == pytest.approx((newest - oldest).total_seconds() / 86_400)


def test_without_times_the_training_rows_count(tmp_path: Path) -> None:
    task_set, _ = written(tmp_path, split="random")
    history, train = task_set.history(), task_set.tasks("train")
    assert not history.has_times
    item = np.concatenate([train.support.item, train.query.item])
    expected = np.bincount(item, minlength=history.num_items)
    np.testing.assert_array_equal(history.now(None), expected)
    np.testing.assert_array_equal(as_of_old(task_set).history().now(None), expected)


def test_an_old_task_set_has_a_history_as_coarse_as_its_snapshots(tmp_path: Path) -> None:
    task_set, _ = written(tmp_path, snapshots=20, split="temporal")
    exact = task_set.history()
    coarse = as_of_old(task_set).history()
    assert coarse.has_times
    np.testing.assert_array_equal(coarse.now(None), exact.now(None))
    statistics, test = task_set.statistics(), task_set.tasks("test")
    found = coarse.counts(test.cut_time, None)
    np.testing.assert_array_equal(found, statistics.num_users[test.snapshot])
    assert (found <= exact.counts(test.cut_time, None)).all()
    assert abs(coarse.span_days - exact.span_days) < 0.1 * exact.span_days


def test_a_long_history_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    time = np.sort(generator.integers(0, 40 * DAY, 200))
    item = generator.integers(0, 7, 200).astype(np.int32)
    cuts = np.concatenate([generator.integers(0, 40 * DAY, 9), [schema.END_OF_TIME, 50 * DAY]])
    one = np.full(len(cuts), 4)

    def counted() -> list[Float32Array]:
        history = ItemHistory(time=time, item=item, num_items=9)
        return [
            found
            for half_life in (None, 3.0)
            for found in (
                history.counts(cuts, half_life),
                history.counts_of(cuts, one, half_life),
                history.now(half_life),
            )
        ]

    whole = counted()
    for patched, name, least in ((item_history, "EVENTS_AT_ONCE", 3), (scratch, "AT_ONCE", 5)):
        monkeypatch.setattr(patched, name, least)
    monkeypatch.setattr(scratch, "MOST_IN_MEMORY", 64)
    for expected, found in zip(whole, counted(), strict=True):
        np.testing.assert_array_equal(found, expected)
