"""Every task once per epoch, episodes without bias, negatives that are the user's own."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.tasks.episodes import (
    EpisodeConfig,
    epoch,
    resample,
    window,
    with_negatives,
)
from recmeta.tasks.task_set import Ragged, Tasks

sides = st.lists(st.lists(st.integers(0, 9), max_size=6, unique=True), min_size=1, max_size=8)


def make_tasks(support: list[list[int]], query: list[list[int]]) -> Tasks:
    """Build tasks whose values are 10 × item plus the user, so that rows can be told apart."""

    def side(rows: list[list[int]]) -> Ragged:
        values = [[10.0 * item + user for item in row] for user, row in enumerate(rows)]
        return Ragged.from_lists(rows, values)

    count = len(support)
    return Tasks(
        pa.table({"user_id": [f"u{n}" for n in range(count)]}),
        np.arange(count),
        np.zeros(count, np.int32),
        np.array(["warm"] * count),
        side(support),
        side(query),
    )


def lists(rows: Ragged) -> list[list[int]]:
    """Return the items per task."""
    return [
        rows.item[a:b].tolist() for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    ]


def of_lengths(lengths: list[int]) -> Tasks:
    return make_tasks([[] for _ in lengths], [list(range(n)) for n in lengths])


@given(sides, st.integers(1, 5), st.booleans(), st.integers(0, 5))
def test_every_task_comes_once_per_epoch(
    query: list[list[int]], batch_size: int, again: bool, seed: int
) -> None:
    tasks = make_tasks([[] for _ in query], query)
    config = EpisodeConfig(batch_size=batch_size, resample=again, min_rows=0)
    seen: list[int] = []
    for positions, batch in epoch(tasks, config, np.random.default_rng(seed)):
        assert len(positions) == len(batch) <= batch_size
        assert batch.user_id == [f"u{n}" for n in positions]
        seen += positions.tolist()
        for position, left, right in zip(
            positions, lists(batch.support), lists(batch.query), strict=True
        ):
            assert sorted(left + right) == sorted(query[position])
    assert sorted(seen) == list(range(len(query)))


def presented(lengths: list[int], min_rows: int) -> list[int]:
    config = EpisodeConfig(batch_size=3, min_rows=min_rows)
    batches = epoch(of_lengths(lengths), config, np.random.default_rng(0))
    return sorted(position for positions, _ in batches for position in positions.tolist())


def test_users_of_few_rows_stay_out_while_the_others_have_half_of_the_rows() -> None:
    few = [1, 1, 1, 4, 5, 6]
    assert presented(few, 5) == [4, 5]
    assert presented(few, 2) == [3, 4, 5]
    assert presented(few, 1) == presented([*few, 0], 1) == [0, 1, 2, 3, 4, 5]
    assert presented([*few, 0], 0) == [0, 1, 2, 3, 4, 5, 6]
    many = [1] * 20 + [2] * 3 + [3, 7]
    assert presented(many, 5) == list(range(25))  # of 36 rows 16 are those of users with two
    assert presented(many[15:], 5) == [5, 6, 7, 8, 9]  # 16 of 21; with three rows 10
    assert presented([0, 0], 5) == [0, 1]


def test_the_order_is_the_generators() -> None:
    tasks = of_lengths([5] * 20)

    def run(seed: int) -> list[list[list[int]]]:
        batches = epoch(tasks, EpisodeConfig(batch_size=6), np.random.default_rng(seed))
        return [
            [positions.tolist(), *lists(b.support), *lists(b.query)] for positions, b in batches
        ]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_without_resampling_the_split_stays() -> None:
    tasks = make_tasks([[1, 2], [3]], [[4], [5, 6]])
    config = EpisodeConfig(resample=False)
    ((positions, batch),) = epoch(tasks, config, np.random.default_rng(0))
    assert lists(batch.support) == [lists(tasks.support)[p] for p in positions]
    assert lists(batch.query) == [lists(tasks.query)[p] for p in positions]


def test_long_queries_are_thinned_at_random() -> None:
    tasks = of_lengths([10, 2])
    config = EpisodeConfig(resample=False, max_query=3, min_rows=0)
    kept = np.zeros(10)
    for seed in range(400):
        for positions, batch in epoch(tasks, config, np.random.default_rng(seed)):
            by_user = dict(zip(positions.tolist(), lists(batch.query), strict=True))
            assert len(by_user[0]) == 3
            assert sorted(by_user[1]) == [0, 1]
            kept[by_user[0]] += 1
    assert kept.sum() == 1200
    assert (np.abs(kept - 120) < 50).all()


@given(sides, sides, st.integers(0, 4), st.integers(1, 4), st.integers(0, 3))
def test_resampling_keeps_to_the_users_rows(
    support: list[list[int]], query: list[list[int]], most: int, most_query: int, seed: int
) -> None:
    count = min(len(support), len(query))
    # A user has an item once: what is in the support is not in the query.
    query = [[i + 10 for i in row] for row in query[:count]]
    tasks = make_tasks(support[:count], query)
    config = EpisodeConfig(max_support=most, max_query=most_query)
    drawn = resample(tasks, config, np.random.default_rng(seed))
    owned = tasks.rows
    rows = zip(lists(drawn.support), lists(drawn.query), lists(owned), strict=True)
    for left, right, all_rows in rows:
        assert len(left) <= most
        assert len(right) == min(most_query, len(all_rows) - len(left))
        assert len(set(left + right)) == len(left + right)
        assert set(left + right) <= set(all_rows)
        assert right or not all_rows  # there is always something to predict
    for side in (drawn.support, drawn.query):
        value_of = dict(
            zip(
                zip(owned.task.tolist(), owned.item.tolist(), strict=True), owned.value, strict=True
            )
        )
        for task, item, value in zip(
            side.task.tolist(), side.item.tolist(), side.value, strict=True
        ):
            assert value == value_of[task, item]


def test_support_sizes_are_uniform_whatever_the_length() -> None:
    lengths = [4, 12, 60]
    tasks = of_lengths(lengths * 2000)
    drawn = resample(tasks, EpisodeConfig(max_support=5), np.random.default_rng(0))
    sizes = drawn.support.lengths.reshape(-1, 3)
    for column, most in enumerate([3, 5, 5]):
        counts = np.bincount(sizes[:, column], minlength=6)
        expected = 2000 / (most + 1)
        assert (np.abs(counts[: most + 1] - expected) < 5 * np.sqrt(expected)).all()
        assert not counts[most + 1 :].any()


def test_every_row_is_as_likely_to_be_support() -> None:
    tasks = of_lengths([6] * 6000)
    drawn = resample(tasks, EpisodeConfig(max_support=20), np.random.default_rng(0))
    counts = np.bincount(drawn.support.item, minlength=6)
    assert (np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


@given(sides, st.integers(0, 3), st.integers(0, 2**31), st.data())
def test_negatives_are_never_known_and_do_not_depend_on_the_batch(
    rows: list[list[int]], num_negatives: int, salt: int, data: st.DataObject
) -> None:
    known = make_tasks(rows, rows).support
    kept = known.first(3)
    drawn = with_negatives(kept, known, 12, num_negatives, salt)
    for own, everything in zip(lists(drawn), rows, strict=True):
        positives = everything[:3]
        assert own[: len(positives)] == positives
        assert not set(own[len(positives) :]) & set(everything)
        assert len(own) <= len(positives) * (1 + num_negatives)
        assert all(0 <= item < 12 for item in own)
    is_positive = drawn.position < kept.lengths[drawn.task]
    assert not drawn.value[~is_positive].any()
    assert not drawn.counted[~is_positive].any()

    some = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4)), np.int64)
    alone = with_negatives(kept.take(some), known.take(some), 12, num_negatives, salt)
    assert lists(alone) == [lists(drawn)[n] for n in some]


def test_negatives_are_uniform_over_items_and_fresh_for_each_salt() -> None:
    rows = [[n % 50] for n in range(5000)]
    known = make_tasks(rows, rows).support
    first = with_negatives(known, known, 50, 4, salt=0)
    second = with_negatives(known, known, 50, 4, salt=1)
    assert (first.item[: second.item.size] != second.item[: first.item.size]).any()
    # A negative follows from the item and its place, so vary the place and the salt.
    counts = np.zeros(50)
    for salt in range(40):
        drawn = with_negatives(known.take(np.arange(50)), known.take(np.arange(50)), 50, 20, salt)
        counts += np.bincount(drawn.item[drawn.value == 0], minlength=50)
    assert (np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


@given(sides, sides)
def test_rows_follow_those_of_their_task(first: list[list[int]], second: list[list[int]]) -> None:
    count = min(len(first), len(second))
    left = make_tasks(first[:count], first[:count]).support
    right = make_tasks(second[:count], second[:count]).support
    expected = [a + b for a, b in zip(first[:count], second[:count], strict=True)]
    assert lists(left.followed_by(right)) == expected
    flagged = dataclasses.replace(left, counted=~left.counted)
    both = flagged.followed_by(right)
    assert both.counted.tolist() == (both.position < left.lengths[both.task]).tolist()


@given(sides, st.integers(0, 6), st.integers(1, 6), st.integers(0, 20))
def test_a_window_is_a_piece_of_the_history_and_its_query_comes_later(
    query: list[list[int]], max_support: int, max_query: int, seed: int
) -> None:
    tasks = make_tasks([row[:2] for row in query], [row[2:] for row in query])
    config = EpisodeConfig(max_support=max_support, max_query=max_query)
    found = window(tasks, config, np.random.default_rng(seed))
    for history, known, asked in zip(query, lists(found.support), lists(found.query), strict=True):
        assert len(known) <= max_support
        assert len(asked) == min(max_query, len(asked))
        assert bool(asked) == bool(history)  # somebody with rows is always asked something
        places = [history.index(item) for item in known]
        if places:
            assert places == list(range(places[0], places[0] + len(places)))
        assert all(history.index(item) > max(places, default=-1) for item in asked)
        assert len(set(asked)) == len(asked)


def test_windows_begin_and_end_everywhere() -> None:
    tasks = make_tasks([list(range(2))], [list(range(2, 8))])
    config = EpisodeConfig(max_support=4)
    random = np.random.default_rng(0)
    found = [tuple(lists(window(tasks, config, random).support)[0]) for _ in range(400)]
    pieces = {tuple(range(a, a + n)) for n in range(1, 5) for a in range(8 - n)} | {()}
    assert set(found) == pieces


def test_an_epoch_in_order_presents_windows() -> None:
    tasks = of_lengths([30] * 20)
    random = np.random.default_rng(1)
    for _, batch in epoch(tasks, EpisodeConfig(), random, in_order=True):
        for known in lists(batch.support):
            assert known == sorted(known)


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_part_of_a_batch_is_what_it_is_in_the_whole(again: bool, in_order: bool) -> None:
    """As several processes share a batch."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, 30, 23)
    support = [list(range(n // 3)) for n in lengths]
    query = [list(range(n // 3, n)) for n in lengths]
    tasks = make_tasks(support, query)
    config = EpisodeConfig(batch_size=7, resample=again, max_query=5, max_support=6, min_rows=0)
    whole = epoch(tasks, config, np.random.default_rng(5), in_order=in_order)
    places = [np.array([0, 3, 6]), np.array([1]), np.array([5, 2])]
    parts = [
        epoch(
            tasks,
            config,
            np.random.default_rng(5),
            in_order=in_order,
            wanted=lambda num, wanted=wanted: wanted[wanted < num],
        )
        for wanted in places
    ]
    for (positions, batch), *found in zip(whole, *parts, strict=True):
        for wanted, (same, part) in zip(places, found, strict=True):
            assert same.tolist() == positions.tolist()
            own = batch.take(wanted[wanted < len(positions)])
            for side in ("support", "query"):
                expected, rows = getattr(own, side), getattr(part, side)
                assert rows.lengths.tolist() == expected.lengths.tolist()
                assert rows.value.tolist() == expected.value.tolist()


def test_an_epoch_of_some_users_draws_them_anew() -> None:
    tasks = of_lengths([5] * 40)
    config = EpisodeConfig(batch_size=8, most_users=20)
    generator = np.random.default_rng(0)
    first, second = (
        np.concatenate([positions for positions, _ in epoch(tasks, config, generator)])
        for _ in range(2)
    )
    assert len(set(first.tolist())) == len(first) == len(second) == 20
    assert set(first.tolist()) != set(second.tolist())
    whole = np.concatenate(
        [
            positions
            for positions, _ in epoch(
                tasks,
                dataclasses.replace(config, most_users=None),
                np.random.default_rng(0),
            )
        ]
    )
    assert whole[:20].tolist() == first.tolist()
    with pytest.raises(ValueError, match="most_users is 0"):
        EpisodeConfig(most_users=0)
