"""Splitting in parts on disk, against a slow and obvious reading of what a split is."""

import dataclasses
from collections import defaultdict
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_frames import log_dataset, rows_of

from recmeta import schema
from recmeta.errors import UserError
from recmeta.tasks.episodes import splitmix64
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.placing.split_rows import SplitRows
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.splits import interactions as module
from recmeta.tasks.splits.interactions import split_interactions

Event = tuple[str, str, int | None, str, float]
Row = dict[str, Any]

KINDS = ("buy", "rating", "view")
SECOND = 1_000_000


def without_times(log: list[Event]) -> list[Event]:
    """Return the same events at no time, one per key."""
    values = {(user, item, kind): value for user, item, _, kind, value in log}
    return [(user, item, None, kind, value) for (user, item, kind), value in values.items()]


times = st.one_of(
    st.integers(0, 3), st.integers(0, 3).map(lambda s: s * SECOND), st.integers(0, 2**50)
)
event = st.tuples(
    st.sampled_from([f"u{n}" for n in range(12)]),
    st.sampled_from([f"i{n}" for n in range(8)]),
    times,
    st.sampled_from(KINDS),
    st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.5]),
)
logs = st.lists(event, min_size=1, max_size=90, unique_by=lambda e: e[:4])
untimed = logs.map(without_times)
configs = st.builds(
    SplitConfig,
    split=st.sampled_from(["temporal", "random", "melu_states"]),
    objective=st.sampled_from(["rating", "implicit"]),
    events=st.sampled_from([KINDS, ("rating", "view"), ("view",)]),
    support_size=st.integers(0, 4),
    query_size=st.integers(1, 4),
    min_interactions=st.integers(1, 3),
    max_interactions=st.sampled_from([None, 4, 7]),
    dev_share=st.just(0.2),
    test_share=st.just(0.3),
    new_item_share=st.just(0.4),
)


def split(log: list[Event], config: SplitConfig, seed: int) -> SplitRows:
    columns = {
        schema.USER_ID: pl.String,
        schema.ITEM_ID: pl.String,
        schema.TIMESTAMP: pl.Int64,
        schema.EVENT: pl.String,
        schema.VALUE: pl.Float64,
    }
    frame = pl.DataFrame(log, schema=columns, orient="row")
    frame = frame.with_columns(pl.col(schema.TIMESTAMP).cast(pl.Datetime("us", "UTC")))
    item_id = pl.Series(sorted({e[1] for e in log}))
    log_of_all = log_dataset(frame)
    return split_interactions(log_of_all, item_id, pl.LazyFrame({"item_id": item_id}), config, seed)


def slowly(log: list[Event], config: SplitConfig, seed: int) -> list[Row]:
    """Return the rows of all tasks, in their order, one user and one event after the other."""

    def share(name: str, shift: int) -> float:
        return float(unit_hash(pa.array([name]), seed + shift)[0])

    def drawn(user: str, item: str) -> int:
        of_user, of_item = (
            np.array([share(name, shift) * 2**53]).astype(np.uint64)
            for name, shift in ((user, 2), (item, 3))
        )
        return int(splitmix64(splitmix64(of_user) ^ of_item)[0])

    def place(user: str, item: str) -> tuple[str, str] | None:
        kind = share(user, 0)
        split = "test" if kind < 0.3 else "dev" if kind < 0.5 else "train"
        if config.split != "melu_states" or share(item, 1) >= config.new_item_share:
            return split, "user_cold" if split == "test" else "warm"
        return {
            "test": ("test", "user_and_item_cold"),
            "train": ("test", "item_cold"),
            "dev": None,
        }[split]

    is_graded = config.objective == "rating"
    chosen = [e for e in log if e[3] in (config.events or ()) and (is_graded or e[4] > 0)]
    firsts: dict[tuple[str, str], Event] = {}
    for e in sorted(chosen, key=lambda e: (e[2] or 0, e[3])):
        firsts.setdefault(e[:2], e)
    tasks: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for e in firsts.values():
        if where := place(*e[:2]):
            tasks[*where, e[0]].append(e)
    rows: list[Row] = []
    for (name, state, user), events in sorted(tasks.items()):
        total = len(events)
        if not config.min_interactions <= total <= (config.max_interactions or total):
            continue
        num_query = min(config.query_size, (total + 1) // 2)
        if config.split == "temporal":
            events.sort(key=lambda e: (e[2], e[1]))
            num_support = min(config.support_size, total - num_query)
            if name != "train":
                events = events[: num_support + config.query_size]
            is_query = [n >= num_support for n in range(len(events))]
        else:
            events.sort(key=lambda e: drawn(*e[:2]))
            is_query = [n < num_query for n in range(total)]
        rows += [
            {
                "user": user,
                "item": e[1],
                "value": e[4] if config.objective == "rating" else 1.0,
                "timestamp": e[2],
                "split": name,
                "state": state,
                "position": n,
                "num_rows": total,
                "is_query": query,
            }
            for n, (e, query) in enumerate(zip(events, is_query, strict=True))
        ]
    return rows


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few rows be more than one part and more than one batch."""
    monkeypatch.setattr(module, "ROWS_PER_PART", 6)
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 10)


def check(log: list[Event], config: SplitConfig, seed: int) -> None:
    present = {e[3] for e in log}
    events = tuple(kind for kind in config.events or KINDS if kind in present)
    config = dataclasses.replace(config, events=events or tuple(sorted(present)))
    expected = slowly(log, config, seed)
    if not expected:
        with pytest.raises(UserError, match=r"loosen|above 0"):
            split(log, config, seed)
        return
    found = split(log, config, seed)
    ids = pl.Series(found.user_id.to_pylist(), dtype=pl.String)
    items = pl.Series(sorted({e[1] for e in log}))
    rows = rows_of(found)
    numbered = rows.with_columns(
        ids.gather(rows["user"]).alias("user"), items.gather(rows["item"]).alias("item")
    ).with_columns(pl.col("timestamp").cast(pl.Int64))
    assert numbered.to_dicts() == expected
    assert found.num_rows == len(expected)
    assert found.num_users == len({row["user"] for row in expected})
    tasks = {(row["split"], row["state"], row["user"]) for row in expected}
    for name in ("train", "dev", "test"):
        assert found.num_tasks(name) == sum(task[0] == name for task in tasks)
    told = [time for piece in found.times() for time in piece.tolist()]
    if config.split == "temporal":
        assert sorted(told) == sorted(row["timestamp"] for row in expected)


@pytest.mark.usefixtures("small_parts")
@settings(deadline=None, max_examples=150)
@given(logs, configs, st.integers(0, 3))
def test_parts_hold_what_the_obvious_reading_says(
    log: list[Event], config: SplitConfig, seed: int
) -> None:
    check(log, config, seed)


@pytest.mark.usefixtures("small_parts")
@settings(deadline=None, max_examples=50)
@given(untimed, configs, st.integers(0, 3))
def test_so_do_those_of_a_log_without_times(
    log: list[Event], config: SplitConfig, seed: int
) -> None:
    kind = "random" if config.split == "temporal" else config.split
    check(log, dataclasses.replace(config, split=kind), seed)


@pytest.mark.usefixtures("small_parts")
def test_one_user_may_be_more_than_a_part() -> None:
    log: list[Event] = [("u0", f"i{n}", n, "rating", 1.0) for n in range(40)]
    log += [(f"v{n}", "i0", n, "rating", 2.0) for n in range(5)]
    config = SplitConfig(split="temporal", min_interactions=1, dev_share=0.2, test_share=0.3)
    found = split(log, config, seed=0)
    assert len(found.parts) > 1
    assert max(int(part.num_rows.max()) for part in found.parts) == 40
    check(log, dataclasses.replace(config, objective="rating"), seed=0)


@pytest.mark.parametrize("kind", ["temporal", "random", "melu_states"])
def test_how_the_log_is_parted_changes_nothing(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    log = [
        (f"u{user}", f"i{item}", int(time), "rating", float(value))
        for user, item, time, value in rng.integers(0, [300, 40, 500, 5], (6_000, 4)).tolist()
    ]
    log = list({e[:4]: e for e in log}.values())
    config = SplitConfig(split=kind)
    whole = split(log, config, seed=1)
    assert len(whole.parts) == 1
    monkeypatch.setattr(module, "ROWS_PER_PART", 500)
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 700)
    parted = split(log, config, seed=1)
    assert len(parted.parts) > 8
    assert rows_of(parted).equals(rows_of(whole))
