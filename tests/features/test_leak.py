"""No task sees its query or anything later: change the future, and its features stay.

Through the real step, from tables to the tensors that a learner gets.
"""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta import schema
from recmeta.features.item_statistics import StatisticsConfig
from recmeta.metalearn.batch import Catalogue
from recmeta.metalearn.encoding import Encoder, FeatureConfig
from recmeta.steps import build_tasks
from recmeta.tasks.splits import SplitConfig
from recmeta.tasks.task_set import SPLITS, TaskSet
from recmeta.workspace import Workspace

NUM_USERS, NUM_ITEMS, LAST = 14, 8, 60
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
    user, item = np.array(pairs).T
    time = rng.integers(0, LAST, len(user))  # ties are common
    value = rng.integers(1, 6, len(user)).astype(float)

    def versions(count: int) -> list[tuple[int, int, float]]:
        return [
            (n, int(t), float(rng.integers(100)))
            for n in range(count)
            for t in sorted(rng.choice(LAST, rng.integers(1, 4), replace=False))
        ]

    return Log(user, item, time, value, versions(NUM_USERS), versions(NUM_ITEMS))


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
    return TaskSet(workspace / manifest.outputs["tasks"])


ENCODER = Encoder.fit(  # fixed, since what a model is trained on is another matter
    pa.table({"user_id": ["u"], "age": [50.0]}),
    pa.array(["i"]),
    pa.table({"price": [50.0]}),
    np.array([1.0, 5.0], np.float32),
    FeatureConfig(),
)


def features(task_set: TaskSet) -> dict[tuple[str, str], dict[str, object]]:
    """Return all that a learner is told of each task beside the query's values."""
    catalogue = Catalogue(task_set.items(), task_set.statistics(), ENCODER, 2.0, torch.device("cpu"))
    price = catalogue.features["price"]
    found: dict[tuple[str, str], dict[str, object]] = {}
    for split in SPLITS:
        tasks = task_set.tasks(split)
        support, query = catalogue.support(tasks), catalogue.rows(tasks.query, tasks)
        for b, user in enumerate(tasks.user_id):
            left, right = support.rows.mask_BR[b], query.mask_BR[b]
            found[user, str(tasks.state[b])] = {
                "cut": int(tasks.cut_time[b]),
                "profile": support.user["age"][b].item(),
                "support": tasks.support.take(np.array([b])).item.tolist(),
                "values": support.rows.value_BR[b, left].tolist(),
                "past": support.rows.statistics_BRD[b, left].tolist(),
                "price": price[support.rows.item_BR[b, left]].tolist(),
                "query": tasks.query.take(np.array([b])).item.tolist(),
                "query past": query.statistics_BRD[b, right].tolist(),
                "query price": price[query.item_BR[b, right]].tolist(),
            }
    return found


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10**6), cut=st.integers(5, LAST - 5))
def test_later_values_and_attributes_are_not_seen(
    tmp_path_factory: object, seed: int, cut: int
) -> None:
    """Every value, profile and price from `cut` on is changed: tasks cut until then stay as they
    are."""
    log = draw(seed)
    folder: Path = tmp_path_factory.mktemp("leak")  # type: ignore[attr-defined]

    def later(rows: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
        return [(n, t, v + 1000 if t > cut else v) for n, t, v in rows]

    changed = dataclasses.replace(
        log,
        value=np.where(log.time >= cut, 6 - log.value + 0.5, log.value),
        users=later(log.users),
        items=later(log.items),
    )
    before = features(build(log, folder / "before", TEMPORAL))
    after = features(build(changed, folder / "after", TEMPORAL))
    assert before.keys() == after.keys()
    checked = 0
    for key, task in before.items():
        if task["cut"] <= cut and all(t < cut for t in _support_times(log, key[0], task)):
            assert _with_known_prices(task, log, cut) == _with_known_prices(after[key], log, cut)
            checked += 1
    own = [task for task in before.values() if task["cut"] <= cut]
    assert checked or not own


def _support_times(log: Log, user: str, task: dict[str, object]) -> list[int]:
    number = int(user[1:])
    times = dict(
        zip(
            zip(log.user.tolist(), log.item.tolist(), strict=True), log.time.tolist(), strict=True
        )
    )
    return [times[number, item] for item in task["support"]]  # type: ignore[attr-defined]
