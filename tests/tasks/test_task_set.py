"""A task set comes back from disk as it was written; ragged rows are cut as lists are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.tasks.item_files import (
    Items,
    ItemStatistics,
    read_items,
    read_statistics,
    write_items,
    write_statistics,
)
from recmeta.tasks.task_set import (
    SPLITS,
    TASK_COLUMNS,
    Ragged,
    Tasks,
    TaskSet,
    TaskSetSpec,
    read_tasks,
    write_shard,
    write_spec,
    write_tasks,
)
from recmeta.workspace import Folder

rows_strategy = st.lists(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from([1.0, 2.5, 5.0])), max_size=5),
    max_size=6,
)
Rows = list[list[tuple[int, float]]]


def ragged(rows: Rows) -> Ragged:
    return Ragged.from_lists(
        [[i for i, _ in row] for row in rows],
        [[v for _, v in row] for row in rows],
        [[i % 2 == 0 for i, _ in row] for row in rows],
    )


def lists(side: Ragged) -> Rows:
    bounds = zip(side.offsets[:-1], side.offsets[1:], strict=True)
    pairs = list(zip(side.item.tolist(), side.value.tolist(), strict=True))
    return [pairs[a:b] for a, b in bounds]


def shard(support: Rows, query: Rows) -> pa.Table:
    def columns(rows: Rows) -> list[pa.Array]:
        return [
            pa.array([[i for i, _ in row] for row in rows], pa.list_(pa.int32())),
            pa.array([[v for _, v in row] for row in rows], pa.list_(pa.float32())),
            pa.array([[i % 2 == 0 for i, _ in row] for row in rows], pa.list_(pa.bool_())),
        ]

    count = len(support)
    plain = [
        pa.array(np.arange(count) * 10),
        pa.array(np.zeros(count, np.int32)),
        pa.array(["warm"] * count, pa.string()),
    ]
    table = pa.table([*plain, *columns(support), *columns(query)], names=list(TASK_COLUMNS))
    table = table.append_column("user_id", pa.array([f"u{n}" for n in range(count)], pa.string()))
    return table.append_column("hobbies", pa.array([["a"]] * count, pa.list_(pa.string())))


def spec(**changes: object) -> TaskSetSpec:
    plain = {
        "objective": "rating",
        "value_range": (1.0, 5.0),
        "num_items": 3,
        "num_tasks": dict.fromkeys(SPLITS, 0),
        "num_shards": dict.fromkeys(SPLITS, 1),
        "num_interactions": 0,
        "temporal": True,
    }
    return TaskSetSpec(**(plain | changes))


@given(rows_strategy, st.data())
def test_ragged_is_cut_as_lists_are(rows: Rows, data: st.DataObject) -> None:
    side = ragged(rows)
    assert lists(side) == rows
    assert side.lengths.tolist() == [len(row) for row in rows]
    assert side.task.tolist() == [n for n, row in enumerate(rows) for _ in row]
    assert side.position.tolist() == [n for row in rows for n in range(len(row))]
    count = data.draw(st.integers(0, 6))
    assert lists(side.first(count)) == [row[:count] for row in rows]
    if rows:
        some = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5))
        assert lists(side.take(np.array(some, np.int64))) == [rows[n] for n in some]
    parts = [part for some in side.batches(2) for part in lists(some)]
    assert parts == rows
    both = side.followed_by(ragged(rows[::-1]))
    assert lists(both) == [row + other for row, other in zip(rows, rows[::-1], strict=True)]
    keep = side.item < 50
    assert lists(side.select(keep)) == [[(i, v) for i, v in row if i < 50] for row in rows]


@pytest.mark.parametrize(
    ("support", "query"),
    [
        ([], []),
        ([[]], [[]]),
        ([[(1, 5.0)], [], [(2, 1.0), (0, 2.5)]], [[(2, 1.0)], [(1, 1.0)], []]),
    ],
)
def test_tasks_come_back(tmp_path: Path, support: Rows, query: Rows) -> None:
    folder = Folder.at(tmp_path)
    table = shard(support, query)
    half = len(support) // 2
    for split, parts in (
        ("train", [table]),
        ("dev", [table.slice(0, half), table.slice(half)]),
        ("test", [table.slice(0, 0)]),
    ):
        for index, part in enumerate(parts):
            write_shard(folder, split, index, part)
    write_spec(folder, spec(num_shards={"train": 1, "dev": 2, "test": 1}))
    task_set = TaskSet(folder)
    for split in ("train", "dev"):
        tasks = task_set.tasks(split)
        assert lists(tasks.support) == support
        assert lists(tasks.query) == query
        assert tasks.user_id == [f"u{n}" for n in range(len(support))]
        assert tasks.cut_time.tolist() == [10 * n for n in range(len(support))]
        assert tasks.profile.column_names == ["user_id", "hobbies"]
        assert tasks.support.counted.tolist() == (tasks.support.item % 2 == 0).tolist()
    everybody = task_set.joined()
    assert lists(everybody.tasks("train").support) == support + support
    assert len(everybody.tasks("dev")) == 0
    assert task_set.tasks("train") is task_set.tasks("train")
    assert lists(task_set.tasks("train").rows) == [
        a + b for a, b in zip(support, query, strict=True)
    ]
    assert len(task_set.tasks("test")) == 0
    assert list(task_set.tasks("test").batches(4)) == []


def test_items_with_versions_come_back(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    items = Items(
        pa.array(["a", "b", "c"]),
        np.array([0, 0, 1, 2], np.int32),
        np.array([np.iinfo(np.int64).min, 5, 7, 7]),
        pa.table({"genres": [["x"], ["x", "y"], None, []], "year": [1.0, None, 3.0, 4.0]}),
    )
    write_items(folder, items)
    found = read_items(folder)
    assert found.item_id.to_pylist() == ["a", "b", "c"]
    np.testing.assert_array_equal(found.item, items.item)
    np.testing.assert_array_equal(found.valid_from, items.valid_from)
    assert found.attributes.equals(items.attributes)


def test_statistics_come_back(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    statistics = ItemStatistics(
        np.array([np.iinfo(np.int64).min, 4, 9]),
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.arange(6, dtype=np.float32).reshape(3, 2) * 2.5,
    )
    write_statistics(folder, statistics)
    found = read_statistics(folder)
    np.testing.assert_array_equal(found.time, statistics.time)
    np.testing.assert_array_equal(found.num_users, statistics.num_users)
    np.testing.assert_array_equal(found.sum_values, statistics.sum_values)
    assert found.last().num_users.tolist() == [[4.0, 5.0]]


def test_a_format_of_another_version_is_refused(tmp_path: Path) -> None:
    write_spec(Folder.at(tmp_path), spec(format_version=99))
    with pytest.raises(ValueError, match=r"format 99.*build the tasks again"):
        TaskSet(Folder.at(tmp_path))


def test_a_spec_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write_spec(folder, spec())
    folder.write_json("spec.json", {**folder.read_json("spec.json"), "num_item": 3})
    with pytest.raises(UserError, match="Did you mean 'num_items'"):
        TaskSet(folder)


def test_attributes_may_be_called_as_columns_of_the_files_are(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    names = ["user_id", "state", "cut_time", "attribute:state", "age"]
    profile = pa.table({name: [f"{name} of a"] for name in names})
    side = Ragged.from_lists([[0]], [[1.0]])
    tasks = Tasks(profile, np.array([5]), np.array([0], np.int32), np.array(["warm"]), side, side)
    write_tasks(folder, "test-00000.arrow", tasks)
    found = read_tasks(folder, "test-00000.arrow")
    assert found.profile.equals(profile)
    assert found.state.tolist() == ["warm"]
    assert found.cut_time.tolist() == [5]
    attributes = pa.table({name: [f"{name} of i"] for name in ("item", "title", "item_id")})
    items = Items(pa.array(["i"]), np.array([0], np.int32), np.array([7]), attributes)
    write_items(folder, items)
    again = read_items(folder)
    assert again.attributes.equals(attributes)
    assert again.item.tolist() == [0]
    assert again.item_id.to_pylist() == ["i"]
