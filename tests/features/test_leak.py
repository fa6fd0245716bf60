"""No task sees its query or anything later: change the future, and its features stay.

Through the real step, from tables to the tensors that a learner gets.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta import schema
from recmeta.features.item_statistics import StatisticsConfig
from recmeta.metalearn.tensors.batch import Catalogue
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig
from recmeta.steps.data import build_tasks
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.task_set import SPLITS, Split, TaskSet
from recmeta.workspace import Workspace

NUM_USERS, NUM_ITEMS, LAST = 14, 8, 60
END = 99
"""A user of their own."""
TEMPORAL = SplitConfig(split="temporal", support_size=3, query_size=3, test_share=0.3)
RANDOM = SplitConfig(split="random", query_size=2, test_share=0.3)


@dataclasses.dataclass(frozen=True)
class Log:
    """Plain columns that a test can change."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    value: np.ndarray
    users: list[tuple[int, int, float]]
    """(user, valid from, age)"""
    items: list[tuple[int, int, float]]
    """(item, valid from, price)"""


def draw(seed: int) -> Log:
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(NUM_USERS) for i in rng.permutation(NUM_ITEMS)[: 2 + u % 7]]
    time = rng.integers(0, LAST, len(pairs)).tolist()  # ties are common
    value = rng.integers(1, 6, len(pairs)).astype(float).tolist()

    log = [(u, i, t, v) for (u, i), t, v in zip(pairs, time, value, strict=True)]
    # Two last events, so that no other cut time is the end of the log.
    log += [(END, 0, LAST + 10, 3.0), (END, 1, LAST + 11, 3.0)]
    user, item, time, value = (np.array(column) for column in zip(*log, strict=True))

    def versions(count: int, first: int) -> list[tuple[int, int, float]]:
        return [
            (n, int(t), float(rng.integers(100)))
            for n in range(count)
            for t in [first, *sorted(rng.choice(LAST, rng.integers(0, 3), replace=False) + 1)]
        ]

    # An item is listed with its first attributes even before they hold, so they hold always.
    return Log(user, item, time, value, versions(NUM_USERS, LAST // 3), versions(NUM_ITEMS, -1))


def build(log: Log, folder: Path, config: SplitConfig, num_snapshots: int = 8) -> TaskSet:
    """Write the tables and run the step."""
    workspace = Workspace(folder)
    moment = pa.array(log.time).cast(schema.TIME)
    write_deltalake(
        workspace.table_uri(schema.INTERACTIONS),
        pa.table(
            {
                schema.USER_ID: [f"u{n:02d}" for n in log.user],
                schema.ITEM_ID: [f"i{n}" for n in log.item],
                schema.TIMESTAMP: moment,
                schema.EVENT: ["rating"] * len(log.user),
                schema.VALUE: log.value,
                schema.SOURCE: ["test"] * len(log.user),
                schema.INGESTED_AT: moment,
            }
        ).cast(schema.INTERACTIONS.columns),
    )
    for table, prefix, width, name, rows in (
        (schema.USERS, "u", 2, "age", log.users),
        (schema.ITEMS, "i", 1, "price", log.items),
    ):
        entities = pa.table(
            {
                table.key[0]: [f"{prefix}{n:0{width}d}" for n, _, _ in rows],
                schema.VALID_FROM: pa.array([t for _, t, _ in rows]).cast(schema.TIME),
                name: [v for _, _, v in rows],
            }
        )
        write_deltalake(workspace.table_uri(table), entities)
    statistics = StatisticsConfig(num_snapshots=num_snapshots)
    manifest = build_tasks.run(
        build_tasks.BuildTasksConfig(split=config, statistics=statistics), workspace
    )
    return TaskSet(workspace / manifest.outputs.tasks)


ENCODER = Encoder.fit(  # fixed, since what a model is trained on is another matter
    pa.table({"user_id": ["u"], "age": [50.0]}),
    pa.array(["i"]),
    pa.table({"price": [50.0]}),
    np.array([1.0, 5.0], np.float32),
    FeatureConfig(),
)


def features(task_set: TaskSet, user: str) -> dict[str, object]:
    """Return all that a learner is told of a user's task, beside the query's values."""
    catalogue = Catalogue(
        task_set.items(), task_set.statistics(), ENCODER, 2.0, torch.device("cpu")
    )
    price = catalogue.features["price"]
    tasks = task_set.tasks(split_of(task_set, user))
    tasks = tasks.take(np.array([tasks.user_id.index(user)]))
    support, query = catalogue.support(tasks), catalogue.rows(tasks.query, tasks)
    return {
        "cut": tasks.cut_time.tolist(),
        "profile": support.user["age"].tolist(),
        "support": tasks.support.item.tolist(),
        "support value": tasks.support.value.tolist(),
        "support past": support.rows.statistics_BRD.tolist(),
        "support price": price[support.rows.item_BR].tolist(),
        "query": tasks.query.item.tolist(),
        "query past": query.statistics_BRD.tolist(),
        "query price": price[query.item_BR].tolist(),
    }


def split_of(task_set: TaskSet, user: str) -> Split:
    return next(split for split in SPLITS if user in task_set.tasks(split).user_id)


def of_task(log: Log, task_set: TaskSet, user: int) -> tuple[int, np.ndarray]:
    """Return the cut time of a user's task, and which rows of the log nobody knew by then.

    These are all from the cut time on, less the task's own support: where times tie, the support
    can bear the query's time.
    """
    known = features(task_set, f"u{user:02d}")
    own_support = (log.user == user) & np.isin(log.item, known["support"])
    own_query = (log.user == user) & np.isin(log.item, known["query"])
    cut = int(log.time[own_query].min())
    assert known["cut"] == [cut]
    return cut, (log.time >= cut) & ~own_support


seeds = st.integers(0, 10**6)
users = st.integers(0, NUM_USERS - 1)
quick = settings(deadline=None, max_examples=8)


@quick
@given(seeds, users, st.sampled_from([2, 8, 10_000]))
def test_later_values_and_attributes_are_not_seen(seed: int, user: int, num_snapshots: int) -> None:
    log = draw(seed)
    with tempfile.TemporaryDirectory() as folder:
        task_set = build(log, Path(folder) / "before", TEMPORAL, num_snapshots)
        before = features(task_set, f"u{user:02d}")
        cut, unknown = of_task(log, task_set, user)
        changed = dataclasses.replace(
            log,
            value=np.where(unknown, log.value + 7.5, log.value),
            users=[(n, t, v + 1000 if t > cut else v) for n, t, v in log.users],
            items=[(n, t, v + 1000 if t > cut else v) for n, t, v in log.items],
        )
        after = build(changed, Path(folder) / "after", TEMPORAL, num_snapshots)
        assert features(after, f"u{user:02d}") == before


@quick
@given(seeds, users)
def test_later_events_of_others_are_not_seen(seed: int, user: int) -> None:
    """With a snapshot at every event's time; fewer fall at times that depend on the whole log."""
    log = draw(seed)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        task_set = build(log, Path(folder) / "before", TEMPORAL, 10_000)
        before = features(task_set, f"u{user:02d}")
        cut, _ = of_task(log, task_set, user)
        others = np.array([n for n in range(NUM_USERS + 6) if n != user])
        extra = rng.choice(others, 60)
        more = dataclasses.replace(
            log,
            user=np.concatenate([log.user, extra]),
            item=np.concatenate([log.item, rng.integers(0, NUM_ITEMS, 60)]),
            time=np.concatenate([log.time, rng.integers(cut, LAST + 9, 60)]),
            value=np.concatenate([log.value, np.full(60, 5.0)]),
        )
        after = build(more, Path(folder) / "after", TEMPORAL, 10_000)
        assert features(after, f"u{user:02d}") == before


@quick
@given(seeds, users, st.sampled_from([TEMPORAL, RANDOM]))
def test_a_users_own_values_are_in_none_of_their_features(
    seed: int, user: int, config: SplitConfig
) -> None:
    log = draw(seed)
    with tempfile.TemporaryDirectory() as folder:
        before = features(build(log, Path(folder) / "before", config), f"u{user:02d}")
        value = np.where(log.user == user, 6.0 - log.value + 0.5, log.value)
        changed = dataclasses.replace(log, value=value)
        after = features(build(changed, Path(folder) / "after", config), f"u{user:02d}")
        for side in ("support", "query"):
            assert after[side] == before[side]
            assert np.allclose(after[f"{side} past"], before[f"{side} past"], atol=1e-5)


@quick
@given(seeds)
def test_held_out_users_leave_the_statistics_of_a_random_split_alone(seed: int) -> None:
    log = draw(seed)
    with tempfile.TemporaryDirectory() as folder:
        task_set = build(log, Path(folder) / "before", RANDOM)
        cold = {int(u[1:]) for u in task_set.tasks("test").user_id}
        value = np.where(np.isin(log.user, list(cold)), 100.0, log.value)
        after = build(dataclasses.replace(log, value=value), Path(folder) / "after", RANDOM)
        np.testing.assert_array_equal(
            after.statistics().sum_values, task_set.statistics().sum_values
        )


def test_the_newest_snapshot_is_never_later_than_the_cut(tmp_path: Path) -> None:
    for num_snapshots in (2, 5, 50):
        task_set = build(
            draw(num_snapshots), tmp_path / str(num_snapshots), TEMPORAL, num_snapshots
        )
        time = task_set.statistics().time
        for split in SPLITS:
            tasks = task_set.tasks(split)
            assert (time[tasks.snapshot] <= tasks.cut_time).all()
            later = np.minimum(tasks.snapshot + 1, len(time) - 1)
            assert (time[later] > tasks.cut_time).all()
