"""Tasks that were added to are those that are built from scratch, to the last bit."""

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recmeta import schema
from recmeta.errors import Broken
from recmeta.features.item_statistics import StatisticsConfig
from recmeta.logs import tables
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.manifest import Manifest, latest, redoing
from recmeta.steps.data import build_tasks, ingest
from recmeta.steps.data.build_tasks import BuildTasksConfig, BuildTasksOutputs
from recmeta.steps.parts.increments import building, log_changes
from recmeta.steps.upkeep import forget, maintenance
from recmeta.tasks.placing import shards
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import SPLITS, TaskSet
from recmeta.workspace import Workspace

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
CONFIG = BuildTasksConfig(
    split=SplitConfig(support_size=3, query_size=2, dev_share=0.2, test_share=0.3),
    statistics=StatisticsConfig(num_snapshots=7),
)
Row = tuple[int, int, int, int]
"""User, item, second, and rating."""


@pytest.fixture(autouse=True)
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let increments be larger than a base of a few rows, and a base have several shards."""
    monkeypatch.setattr(building, "MOST_SHARE", 1e9)
    monkeypatch.setattr(shards, "TASKS_PER_SHARD", 2)


def add(
    workspace: Workspace, rows: Sequence[Row], number: int, users: AttributeSource | None = None
) -> None:
    """Ingest some rows as the log of a day."""
    path = Path(workspace.path).parent / f"log-{number}.csv"
    columns = zip(*rows, strict=True)
    names = ("user_id", "item_id", "timestamp", "rating")
    frame = pl.DataFrame(dict(zip(names, columns, strict=True)))
    user = pl.format("u{}", "user_id").alias("user_id")
    frame.with_columns(user, pl.col("timestamp") + 10**9).write_csv(path)
    mapping = LogMapping(
        path=str(path), time_col="timestamp", value_col="rating", scale="0:9", users=users
    )
    ingest.run(mapping, workspace, now=NOW + datetime.timedelta(seconds=number))


def build(workspace: Workspace, config: BuildTasksConfig = CONFIG) -> Manifest[BuildTasksOutputs]:
    return build_tasks.run(config, workspace)


def check(
    workspace: Workspace, built: Manifest[BuildTasksOutputs], config: BuildTasksConfig = CONFIG
) -> None:
    """Compare tasks with those of the same step when it is done from scratch."""
    found = contents(TaskSet(workspace / built.outputs.tasks))
    table = tables.scan(workspace, schema.ITEM_STATISTICS).collect().sort(pl.all())
    with redoing(["build-tasks"], ["build-tasks"]):
        scratch = build(workspace, config)
    assert not scratch.outputs.increment_of
    assert scratch.key == built.key
    assert scratch.counts == built.counts
    expected = contents(TaskSet(workspace / scratch.outputs.tasks))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value, name
    assert tables.scan(workspace, schema.ITEM_STATISTICS).collect().sort(pl.all()).equals(table)


def contents(task_set: TaskSet) -> dict[str, Any]:
    """Return all that a reader sees of a task set, arrays as their bytes."""
    spec, statistics, history = task_set.spec, task_set.statistics(), task_set.history()
    items = task_set.items()
    found: dict[str, Any] = {
        "items": (items.item_id.to_pylist(), items.attributes.to_pylist()),
        "time": statistics.time.tobytes(),
        "num_users": statistics.num_users.tobytes(),
        "sum_values": statistics.sum_values.tobytes(),
        "history": (history.time.tobytes(), history.item.tobytes()),  # type: ignore[union-attr]
        "spec": (
            spec.objective,
            spec.value_range,
            spec.num_items,
            spec.num_tasks,
            spec.num_interactions,
            spec.split,
            spec.taken_from,
        ),
    }
    for split in SPLITS:
        tasks = task_set.tasks(split)
        found |= {
            f"{split} profile": tasks.profile.to_pylist(),
            f"{split} cut time": tasks.cut_time.tobytes(),
            f"{split} snapshot": tasks.snapshot.tobytes(),
            f"{split} state": tasks.state.tolist(),
        }
        for side in ("support", "query"):
            rows = getattr(tasks, side)
            for name in ("offsets", "item", "value", "counted"):
                found[f"{split} {side} {name}"] = getattr(rows, name).tobytes()
    return found


def drawn(seed: int, num_rows: int, start: int, num_users: int = 25) -> list[Row]:
    """Return rows of some users within a thousand seconds."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, num_users, num_rows),
        rng.integers(0, 12 + 3 * seed, num_rows),
        rng.integers(start, start + 1_000, num_rows),
        rng.integers(1, 10, num_rows),
    ]
    return list(dict.fromkeys(zip(*(c.tolist() for c in columns), strict=True)))


rows = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 8), st.integers(0, 30), st.integers(0, 4)),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[:3],
)


@given(
    days=st.lists(st.tuples(rows, st.sampled_from([0, 0, 20, 60])), min_size=1, max_size=4),
    implicit=st.booleans(),
    optimised=st.booleans(),
)
@settings(
    max_examples=25 if os.environ.get("RECMETA_SLOW") else 2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_in_whatever_order_rows_come_the_tasks_are_those_from_scratch(
    days: list[tuple[list[Row], int]],
    implicit: bool,
    optimised: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("arrival") / "workspace")
    split = SplitConfig(
        support_size=2,
        query_size=2,
        dev_share=0.2,
        test_share=0.3,
        objective="implicit" if implicit else "auto",
    )
    config = BuildTasksConfig(split=split, statistics=StatisticsConfig(num_snapshots=5))
    first = [(user, user % 5, 10 + user % 7, user % 5) for user in range(12)]
    add(workspace, first + [(user, 5 + user % 3, 15, 2) for user in range(12)], 0)
    build(workspace, config)
    for number, (day, later) in enumerate(days, start=1):
        # The same second again, or an earlier one, is a late row; the same key is a replaced row.
        add(workspace, [(u, i, 1_000 + t + later, v) for u, i, t, v in day], number)
        if optimised:
            maintenance.optimise(workspace, min_files=2)
        built = build(workspace, config)
        assert built.outputs.built.startswith(("on top", "in full: the files of"))
    check(workspace, built, config)


def test_late_and_replaced_rows_and_new_items_change_what_they_touch(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    first = drawn(0, 300, 10_000)
    add(workspace, first, 0)
    whole = build(workspace)
    assert whole.outputs.built == "in full: these are the first tasks here"
    add(workspace, drawn(1, 40, 12_000, num_users=30), 1)
    second = build(workspace)
    assert second.outputs.increment_of == (whole.outputs.tasks,)
    assert second.outputs.built == (
        "on top of 1 earlier: 39 rows came or went, which touch 24 users"
    )
    # Earlier than all others; other values of the same keys; items that sort before known ones.
    replaced = [(user, item, second, value % 9 + 1) for user, item, second, value in first[:30]]
    add(workspace, [*drawn(2, 30, 9_000), *replaced], 2)
    third = build(workspace)
    assert third.outputs.increment_of == (whole.outputs.tasks, second.outputs.tasks)
    check(workspace, third)


def test_values_of_two_levels_say_what_was_taken(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    add(workspace, [(u, i, t, 1 + v % 2) for u, i, t, v in drawn(0, 200, 10_000)], 0)
    build(workspace)
    add(workspace, [(u, i, t, 1 + v % 2) for u, i, t, v in drawn(1, 30, 12_000)], 1)
    built = build(workspace)
    assert TaskSet(workspace / built.outputs.tasks).spec.taken_from == 2
    check(workspace, built)
    add(workspace, [(u, i, t, 3) for u, i, t, _ in drawn(2, 30, 13_000)], 2)
    third = build(workspace)
    assert third.outputs.increment_of
    assert TaskSet(workspace / third.outputs.tasks).spec.taken_from is None
    check(workspace, third)


def test_users_whose_attributes_change_have_new_profiles(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    for number, city in enumerate(("Oslo", "Rome")):
        place = tmp_path / f"users-{number}.csv"
        pl.DataFrame({"id": [f"u{n}" for n in range(20)], "city": [city] * 7 + ["Bonn"] * 13}
        ).write_csv(place)  # fmt: skip
        columns = {"city": Attribute(kind="categorical")}
        users = AttributeSource(path=str(place), id_col="id", columns=columns)
        add(workspace, drawn(number, 200 - 180 * number, 10_000 + 2_000 * number), number, users)
        built = build(workspace)
    assert built.outputs.increment_of
    profiles = [TaskSet(workspace / built.outputs.tasks).tasks(split).profile for split in SPLITS]
    cities = {row["user_id"]: row["city"] for profile in profiles for row in profile.to_pylist()}
    assert {cities[f"u{n}"] for n in range(7) if f"u{n}" in cities} == {"Rome"}
    check(workspace, built)


def test_increments_are_folded_into_a_new_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    add(workspace, drawn(0, 300, 10_000), 0)
    build(workspace)
    add(workspace, drawn(1, 30, 12_000), 1)
    monkeypatch.setattr(building, "MOST_SHARE", 0.05)
    assert "of the rows of their base" in build(workspace).outputs.built
    monkeypatch.setattr(building, "MOST_SHARE", 9)
    monkeypatch.setattr(building, "MOST_INCREMENTS", 1)
    for number in (2, 3):
        add(workspace, drawn(number, 20, 13_000), number)
        built = build(workspace)
    assert built.outputs.built == "in full: the base has 1 increments"


def test_more_rows_than_memory_is_meant_for_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    add(workspace, drawn(0, 300, 10_000), 0)
    build(workspace)
    add(workspace, drawn(1, 60, 12_000), 1)
    monkeypatch.setattr(build_tasks, "MOST_ROWS", 50)
    read: list[str] = []
    monkeypatch.setattr(log_changes, "_as_frame", lambda *_: read.append("rows"))
    assert build(workspace).outputs.built == "in full: the log has 60 rows more than before"
    maintenance.optimise(workspace, min_files=2)
    written = "in full: the files of 360 rows of the log were rewritten"
    assert build(workspace).outputs.built == written
    assert not read


@pytest.mark.parametrize("split", ["random", "global-time"])
def test_what_cannot_be_added_to_is_built_in_full(split: Any, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    config = BuildTasksConfig(split=SplitConfig(split=split))
    add(workspace, drawn(0, 400, 10_000), 0)
    build(workspace)
    assert build(workspace, config).outputs.built == "in full: the settings have changed"
    add(workspace, drawn(1, 30, 10_500), 1)
    assert "may affect every user" in build(workspace, config).outputs.built


def test_a_user_is_forgotten_from_all_that_was_added(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    add(workspace, drawn(0, 300, 10_000), 0)
    base = build(workspace)
    add(workspace, [(0, 1, 12_000, 5)], 1)
    first = build(workspace)
    add(workspace, [(1, 1, 12_500, 5)], 2)
    build(workspace)
    removed = forget.run(workspace, ["u0"], now=NOW).removed
    assert removed["tasks"] == 3  # the last one adds to the others
    for manifest in (base, first):
        assert not workspace.exists(manifest.outputs.tasks)
    built = build(workspace)
    assert built.outputs.built == "in full: these are the first tasks here"
    tasks = TaskSet(workspace / built.outputs.tasks)
    assert "u0" not in {user for split in SPLITS for user in tasks.tasks(split).user_id}


def test_a_base_that_is_lost_is_noticed_and_mended(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    add(workspace, drawn(0, 300, 10_000), 0)
    base = build(workspace)
    add(workspace, drawn(1, 30, 12_000), 1)
    built = build(workspace)
    workspace.delete_folder(base.outputs.tasks)
    with pytest.raises(Broken, match="is missing"):
        latest(workspace, build_tasks.STEP)
    again = build(workspace)
    assert again.key == built.key
    assert again.outputs.built == "in full: the last tasks are incomplete"


@pytest.mark.parametrize("name", ["levels.arrow", "log.json", "rows-00000.arrow", "tallies.arrow"])
def test_a_base_that_is_broken_is_not_added_to(name: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    add(workspace, drawn(0, 300, 10_000), 0)
    base = build(workspace)
    path = Path(workspace.path) / base.outputs.tasks / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    add(workspace, drawn(1, 30, 12_000), 1)
    built = build(workspace)
    assert built.outputs.built == "in full: the last tasks are incomplete"
    check(workspace, built)
