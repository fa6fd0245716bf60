"""Every interaction has one place, time runs from support to query, and nobody is in two splits."""

import dataclasses
from collections.abc import Sequence
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_frames import log_dataset, rows_of

from recmeta import schema
from recmeta.errors import UserError
from recmeta.tasks.placing.split_rows import SplitRows
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.splits import interactions
from recmeta.tasks.splits.interactions import split_interactions

NUM_USERS = 12
NUM_ITEMS = 10
Event = tuple[str, str, int | None, str, float]

event = st.tuples(
    st.sampled_from([f"u{n}" for n in range(NUM_USERS)]),
    st.sampled_from([f"i{n}" for n in range(NUM_ITEMS)]),
    st.integers(0, 30),
    st.just("rating"),
    st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]),
)
logs = st.lists(event, min_size=1, max_size=80, unique_by=lambda e: e[:4])
kinds = st.sampled_from(["temporal", "random", "melu_states"])


def table(log: Sequence[Event]) -> pl.DataFrame:
    columns = [
        (schema.USER_ID, pl.String()),
        (schema.ITEM_ID, pl.String()),
        (schema.TIMESTAMP, pl.Int64()),
        (schema.EVENT, pl.String()),
        (schema.VALUE, pl.Float64()),
    ]
    frame = pl.DataFrame(list(log), schema=columns, orient="row")
    return frame.with_columns(pl.col(schema.TIMESTAMP).cast(pl.Datetime("us", "UTC")))


def split(
    log: Sequence[Event],
    seed: int = 0,
    items: pl.LazyFrame | None = None,
    item_id: Sequence[str] | None = None,
    **config: object,
) -> SplitRows:
    ids = item_id or sorted({row[1] for row in log})
    chosen = SplitConfig(**({"min_interactions": 1, "dev_share": 0.2, "test_share": 0.3} | config))
    catalogue = items if items is not None else pl.LazyFrame({schema.ITEM_ID: ids})
    return split_interactions(log_dataset(table(log)), pl.Series(ids), catalogue, chosen, seed)


def user_ids(found: SplitRows) -> pl.Series:
    return pl.Series(found.user_id.to_pylist(), dtype=pl.String)


def named(found: SplitRows, item_id: Sequence[str]) -> pl.DataFrame:
    """Return the rows with ids in place of numbers, which depend on who else is in the log."""
    rows = rows_of(found)
    return rows.with_columns(
        user_ids(found).gather(rows["user"]).alias("user"),
        pl.Series(item_id, dtype=pl.String).gather(rows["item"]).alias("item"),
    ).sort("user", "item")


def try_split(log: Sequence[Event], seed: int = 0, **config: object) -> SplitRows | None:
    """Return the split, or None where the filters (or the states) leave nobody."""
    try:
        return split(log, seed, **config)
    except UserError as error:
        if "loosen" not in str(error):
            raise
        return None


@settings(deadline=None)
@given(logs, kinds, st.integers(0, 4), st.integers(1, 4), st.integers(0, 3))
def test_every_interaction_has_one_place(
    log: list[Event], kind: str, support_size: int, query_size: int, seed: int
) -> None:
    found = try_split(log, seed, split=kind, support_size=support_size, query_size=query_size)
    if found is None:
        assert kind == "melu_states"
        return
    rows = rows_of(found)
    pairs = {(u, i) for u, i, *_ in log}
    placed = list(
        zip(
            user_ids(found).gather(rows["user"]).to_list(),
            pl.Series(sorted({i for _, i, *_ in log})).gather(rows["item"]).to_list(),
            strict=True,
        )
    )
    assert len(set(placed)) == len(placed)
    assert set(placed) <= pairs
    unused = pairs - set(placed)
    for user, item in unused:  # left out for a reason
        row = [r for r, p in zip(rows.to_dicts(), placed, strict=True) if p[0] == user]
        if kind == "temporal":
            assert row
            assert row[0]["split"] != "train"
            assert sum(r["is_query"] for r in row) == query_size
        else:
            assert kind == "melu_states", (user, item)
    if kind == "random":
        assert not unused


@settings(deadline=None)
@given(logs, st.integers(0, 4), st.integers(1, 4))
def test_support_comes_before_query(log: list[Event], support_size: int, query_size: int) -> None:
    rows = rows_of(split(log, split="temporal", support_size=support_size, query_size=query_size))
    for (_, name), task in rows.group_by("user", "split", maintain_order=True):
        support, query = task.filter(~pl.col("is_query")), task.filter("is_query")
        assert len(query) >= 1
        assert len(support) <= support_size
        assert name == "train" or len(query) <= query_size
        assert task["position"].to_list() == list(range(len(task)))
        assert task["timestamp"].is_sorted()
        if len(support):
            assert support["timestamp"].max() <= query["timestamp"].min()
            assert support["position"].max() < query["position"].min()


@settings(deadline=None)
@given(logs, st.integers(0, 4), st.integers(1, 4))
def test_the_first_event_with_an_item_counts(log: list[Event], seed: int, query_size: int) -> None:
    found = split(log, seed, split="random", query_size=query_size)
    ids = sorted({row[1] for row in log})
    first: dict[tuple[str, str], tuple[int, float]] = {}
    for user, item, time, _, value in log:
        if (user, item) not in first or time < first[user, item][0]:
            first[user, item] = (time, value)
    for row in named(found, ids).to_dicts():
        assert (row["timestamp"], row["value"]) == first[row["user"], row["item"]]


@settings(deadline=None)
@given(logs, kinds, st.integers(0, 3))
def test_a_user_is_in_one_split(log: list[Event], kind: str, seed: int) -> None:
    found = try_split(log, seed, split=kind)
    if found is None:
        return
    rows = rows_of(found)
    warm = rows.filter(pl.col("state") != "item_cold")
    assert warm.group_by("user").agg(pl.col("split").n_unique())["split"].max() in (1, None)
    cold = rows.filter(pl.col("state").is_in(["user_cold", "user_and_item_cold"]))
    assert set(cold["split"]) <= {"test"}
    assert not set(cold["user"]) & set(rows.filter(pl.col("split") != "test")["user"])


@settings(deadline=None)
@given(logs, st.integers(0, 3))
def test_training_meets_no_cold_user_and_no_new_item(log: list[Event], seed: int) -> None:
    found = try_split(log, seed, split="melu_states", new_item_share=0.4, test_share=0.4)
    if found is None:
        return
    rows = rows_of(found)
    known = rows.filter(pl.col("split") != "test")
    assert set(known["state"]) <= {"warm"}
    new = rows.filter(pl.col("state").is_in(["item_cold", "user_and_item_cold"]))
    assert not set(known["item"]) & set(new["item"])
    old = rows.filter(pl.col("state").is_in(["warm", "user_cold"]))
    assert not set(old["item"]) & set(new["item"])
    item_cold = rows.filter(pl.col("state") == "item_cold")
    assert set(item_cold["split"]) <= {"test"}


@settings(deadline=None)
@given(logs, kinds, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_table_is_nothing(
    log: list[Event], kind: str, seed: int, random: Random
) -> None:
    shuffled = list(log)
    random.shuffle(shuffled)
    found, again = try_split(log, seed, split=kind), try_split(shuffled, seed, split=kind)
    if found is None or again is None:
        assert found is again
    else:
        assert rows_of(found).equals(rows_of(again))


@settings(deadline=None)
@given(logs, kinds, st.integers(0, 3), st.integers(1, 5))
def test_other_users_and_items_move_nobody(
    log: list[Event], kind: str, seed: int, count: int
) -> None:
    strangers = [(f"a{n}", f"h{n % 3}", n, "rating", 2.0) for n in range(count)]
    found = try_split(log, seed, split=kind)
    if found is None:
        return
    everything = [*log, *strangers]
    after = named(split(everything, seed, split=kind), sorted({r[1] for r in everything}))
    before = named(found, sorted({r[1] for r in log}))
    assert after.filter(pl.col("user").str.starts_with("u")).equals(before)


def test_events_of_several_kinds_at_one_time_keep_one_order() -> None:
    log: list[Event] = [
        ("u0", f"i{n % 5}", 7, kind, value)
        for n, (kind, value) in enumerate([("buy", 2.0), ("rating", 1.0), ("view", 4.0)] * 40)
    ]
    log = list({(e[1], e[3]): e for e in log}.values())
    config = {"events": ("buy", "rating", "view"), "objective": "rating", "test_share": 0.0}
    expected = rows_of(split(log, split="random", dev_share=0.0, **config))
    rng = np.random.default_rng(0)
    for _ in range(20):
        shuffled = [log[n] for n in rng.permutation(len(log))]
        assert rows_of(split(shuffled, split="random", dev_share=0.0, **config)).equals(expected)


@settings(deadline=None)
@given(logs, kinds, st.integers(1, 5), st.integers(0, 5))
def test_filters_keep_whom_they_say(log: list[Event], kind: str, fewest: int, more: int) -> None:
    config = {"min_interactions": fewest, "max_interactions": fewest + more}
    found = try_split(log, split=kind, **config)
    if found is None:
        return
    for (_, _), task in rows_of(found).group_by("user", "state"):
        assert fewest <= task["num_rows"][0] <= fewest + more
        assert len(task) <= task["num_rows"][0]
    if kind != "melu_states":
        met = {(u, i) for u, i, *_ in log}
        lengths = {user: sum(u == user for u, _ in met) for user, _ in met}
        kept = {user for user, n in lengths.items() if fewest <= n <= fewest + more}
        assert set(user_ids(found).gather(rows_of(found)["user"])) == kept


def test_random_queries_are_drawn_evenly_and_independently() -> None:
    """Two items share a side no more often than chance has it."""
    num_users, num_items = 4000, 12
    log = [(f"u{u}", f"i{i:02d}", None, "rating", 1.0) for u in range(num_users) for i in range(12)]
    found = split(log, split="random", query_size=4, dev_share=0.0, test_share=0.0)
    is_query = np.zeros((num_users, num_items))
    rows = rows_of(found)
    is_query[rows["user"].to_numpy(), rows["item"].to_numpy()] = rows["is_query"].to_numpy()
    expected = num_users * 4 / 12
    assert (np.abs(is_query.sum(0) - expected) < 5 * np.sqrt(expected)).all()
    together = is_query.T @ is_query
    pairs = together[~np.eye(num_items, dtype=bool)]
    expected = num_users * (4 * 3) / (12 * 11)
    assert (np.abs(pairs - expected) < 5 * np.sqrt(expected)).all()


def test_seeds_give_different_splits() -> None:
    log = [(f"u{u}", f"i{i}", i, "rating", 1.0) for u in range(40) for i in range(6)]
    one, other = rows_of(split(log, 0, split="random")), rows_of(split(log, 1, split="random"))
    assert not one.equals(other)


def test_shares_are_kept_on_average() -> None:
    log = [(f"user-{u}", "i0", u, "rating", 1.0) for u in range(5000)]
    counts = rows_of(split(log, test_share=0.2, dev_share=0.1))["split"].value_counts()
    by_split = dict(zip(counts["split"], counts["count"], strict=True))
    assert abs(by_split["test"] - 1000) < 150
    assert abs(by_split["dev"] - 500) < 110


def test_new_items_can_be_the_latest() -> None:
    log = [(f"u{u}", f"i{i}", i, "rating", 1.0) for u in range(30) for i in range(10)]
    ids = [f"i{n}" for n in range(10)]
    years = [None, *range(1991, 2000)]
    items = pl.LazyFrame({schema.ITEM_ID: ids, "year": years, "genre": ["x"] * 10})
    config = {"split": "melu_states", "new_item_share": 0.3}
    rows = rows_of(split(log, items=items, new_item_attribute="year", **config))
    new = rows.filter(pl.col("state").is_in(["item_cold", "user_and_item_cold"]))
    assert set(new["item"]) == {7, 8, 9}
    with pytest.raises(UserError, match=r"new_item_attribute is 'genre'.*There are: year"):
        split(log, items=items, new_item_attribute="genre", **config)


def test_new_items_do_not_depend_on_the_order_of_versions() -> None:
    log = [(f"u{u}", f"i{i}", i, "rating", 1.0) for u in range(30) for i in range(10)]
    versions = [(f"i{n}", 1990 + n if old else 2020 - n) for n in range(10) for old in (1, 0)]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(5):
        order = rng.permutation(len(versions))
        items = pl.LazyFrame(
            [versions[n] for n in order], schema=[schema.ITEM_ID, "year"], orient="row"
        )
        config = {"split": "melu_states", "new_item_attribute": "year"}
        found.append(rows_of(split(log, items=items, **config)))
    assert all(rows.equals(found[0]) for rows in found)


def test_auto_follows_the_log() -> None:
    rated = [("u0", "i0", 3, "rating", 4.0), ("u0", "i1", 5, "click", 1.0)]
    clicked = [("u0", "i0", None, "click", 3.0), ("u0", "i1", 5, "view", 1.0)]
    first, second = split(rated), split(clicked)
    assert (first.objective, first.temporal, len(rows_of(first))) == ("rating", True, 1)
    assert (second.objective, second.temporal, len(rows_of(second))) == ("implicit", False, 2)
    assert set(rows_of(second)["value"]) == {1.0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"events": ("clik",)}, "no event 'clik'. There are: rating"),
        ({"split": "temporal"}, "needs a time on every interaction"),
        ({"min_interactions": 3}, "between 3 and any number"),
    ],
)
def test_what_cannot_be_split_says_why(config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split([("u0", "i0", None, "rating", 1.0)], **config)


def test_an_empty_log_says_why() -> None:
    with pytest.raises(UserError, match="interactions is empty: ingest a log"):
        split([], item_id=["i0"])


@pytest.mark.parametrize(
    "config",
    [
        {"dev_share": 1.0},
        {"dev_share": 0.5, "test_share": 0.5},
        {"query_size": 0},
        {"support_size": -1},
        {"min_interactions": 5, "max_interactions": 4},
    ],
)
def test_configurations_that_cannot_split_are_refused(config: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(config))):
        dataclasses.replace(SplitConfig(), **config)


def test_progress_counts_every_row_and_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions, "ROWS_PER_BATCH", 8)
    monkeypatch.setattr(interactions, "ROWS_PER_PART", 10)
    log = [(f"u{n % 5}", f"i{n % 7}", n, "rating", 1.0) for n in range(30)]
    said: list[tuple[str, int, int]] = []
    ids = sorted({row[1] for row in log})
    split_interactions(
        log_dataset(table(log)),
        pl.Series(ids),
        pl.LazyFrame({schema.ITEM_ID: ids}),
        SplitConfig(min_interactions=1, dev_share=0.2, test_share=0.3),
        0,
        progress=lambda stage, done, total: said.append((stage, done, total)),
    )
    reading = [done for stage, done, _ in said if stage == "reading"]
    assert reading == [0, 8, 16, 24, 30]
    assert {total for stage, _, total in said if stage == "reading"} == {30}
    placing = [(done, total) for stage, done, total in said if stage == "placing"]
    assert placing == [(done, len(placing) - 1) for done in range(len(placing))]
    assert len(placing) > 2
