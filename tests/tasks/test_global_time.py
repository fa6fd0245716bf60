"""Users and time are held out: cold users come last, and nobody learns from what is later."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_frames import log_dataset, rows_of

from recmeta import schema
from recmeta.errors import UserError
from recmeta.steps.parts.task_building import BuildTasksConfig, write_tasks
from recmeta.tasks.placing.split_rows import SplitRows
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.splits.interactions import split_interactions
from recmeta.tasks.task_set import Tasks, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.workspace import MemoryFolder

Event = tuple[str, str, int | None]

event = st.tuples(
    st.sampled_from([f"u{n}" for n in range(15)]),
    st.sampled_from([f"i{n}" for n in range(6)]),
    st.integers(0, 30),
)
logs = st.lists(event, min_size=10, max_size=90, unique_by=lambda e: e[:2])
shares = st.sampled_from([0.0, 0.1, 0.25, 0.4])


def table(log: Sequence[Event]) -> pl.DataFrame:
    user, item, time = zip(*log, strict=True)
    return pl.DataFrame(
        {
            schema.USER_ID: user,
            schema.ITEM_ID: item,
            schema.TIMESTAMP: pl.Series(time, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            schema.EVENT: ["rating"] * len(log),
            schema.VALUE: [3.0] * len(log),
        }
    )


def split(log: Sequence[Event], **config: object) -> SplitRows:
    ids = pl.Series(sorted({item for _, item, _ in log}))
    chosen = SplitConfig(**({"split": "global-time"} | config))
    items = pl.LazyFrame({schema.ITEM_ID: ids})
    return split_interactions(log_dataset(table(log)), ids, items, chosen, seed=0)


@settings(deadline=None, max_examples=60)
@given(logs, shares, shares, st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))
def test_nobody_learns_from_what_is_later(
    log: list[Event], dev: float, test: float, fewest: int, support: int, query: int
) -> None:
    try:
        found = split(
            log,
            dev_share=dev,
            test_share=test,
            min_interactions=fewest,
            support_size=support,
            query_size=query,
        )
    except UserError as error:
        if "come so late" in str(error) or "loosen" in str(error):
            return
        raise
    rows = rows_of(found)
    first_of = {
        found.user_id[u].as_py(): min(t for n, _, t in log if n == found.user_id[u].as_py())
        for u in rows["user"].unique()
    }
    rows = rows.with_columns(
        pl.Series(found.user_id.to_pylist()).gather(rows["user"]).alias("user")
    ).with_columns(pl.col("user").replace_strict(first_of, return_dtype=pl.Int64).alias("first"))
    by = {name: rows.filter(split=name) for name in ("train", "dev", "test", "withheld")}
    # Time runs from training over development to cold users.
    later = [by["test"]["first"].min(), by["dev"]["first"].min()]
    for earlier, *after in (("dev", later[0]), ("train", *later)):
        last = by[earlier]["timestamp"].max()
        assert all(last is None or time is None or last < time for time in after)
    # A cold user has no row elsewhere, and what is withheld of others is later than their rows.
    assert not set(by["test"]["user"]) & set(rows.filter(pl.col("split") != "test")["user"])
    assert not set(by["train"]["user"]) & set(by["dev"]["user"])
    for name in ("train", "dev"):
        mine = by["withheld"].filter(pl.col("user").is_in(by[name]["user"].implode()))
        if len(mine):
            assert by[name]["timestamp"].max() < mine["timestamp"].min()
    # Every row is in one place; of training users, none is left out.
    pairs = rows.select("user", "item")
    assert pairs.is_unique().all()
    assert found.num_events == len(rows)
    assert found.num_rows == len(rows.filter(pl.col("split") != "withheld"))
    for user in set(by["train"]["user"]):
        assert len(rows.filter(user=user)) == sum(name == user for name, *_ in log)
    # Once development users have chosen, all rows before the cold users came are learned from.
    start = min((t for n, _, t in log if n in set(by["test"]["user"])), default=31)
    before = [e for e in log if e[2] is not None and e[2] < start]
    lengths_before = Counter(name for name, *_ in before)
    expected = [e for e in before if lengths_before[e[0]] >= fewest]
    assert found.refit is not None
    assert found.refit.num_rows == len(expected)
    if expected:
        again = rows_of(found.refit)
        assert set(again["split"]) == {"train"}
        assert sorted(again["timestamp"]) == sorted(time for *_, time in expected)
    # The shares are as near to what was asked for as a time can make them.
    lengths = pl.Series([name for name, *_ in log]).value_counts(name="n")
    enough = [n for n, count in zip(*lengths, strict=True) if count >= fewest]
    firsts = np.array([min(t for n, _, t in log if n == user) for user in enough])
    num_cold = by["test"]["user"].n_unique()
    if test == 0.0:
        assert num_cold == 0
    else:
        wanted = max(1, round(test * len(enough)))
        possible = [int((firsts >= time).sum()) for time in set(firsts) - {firsts.min()}]
        assert abs(num_cold - wanted) == min(abs(n - wanted) for n in possible)
        assert num_cold >= wanted / 2
    for (_, name), task in rows.group_by("user", "split"):
        if name != "withheld":
            known, asked = task.filter(~pl.col("is_query")), task.filter("is_query")
            assert len(asked) >= 1
            assert len(known) <= support
            if len(known):
                assert known["timestamp"].max() <= asked["timestamp"].min()


def test_a_log_that_is_known() -> None:
    """Ten users, a day apart, each with a row on three days in a row."""
    log = [(f"u{u}", f"i{i}", u + i) for u in range(10) for i in range(3)]
    rows = rows_of(split(log, dev_share=0.2, test_share=0.3))
    users = {name: sorted(set(of["user"])) for (name,), of in rows.group_by("split")}
    assert users["test"] == [7, 8, 9]
    assert users["dev"] == [5]  # the only row of u6 before the cut is too few
    assert users["train"] == [0, 1, 2, 3]  # and so is that of u4
    assert rows.filter(split="train")["timestamp"].max() == 4
    withheld = rows.filter(split="withheld").select("user", "timestamp").rows()
    assert withheld == [(3, 5), (4, 5), (4, 6), (5, 7), (6, 7), (6, 8)]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ([(f"u{u}", f"i{i}", None) for u in range(9) for i in range(3)], "needs a time on every"),
        (
            [(f"u{u}", f"i{i}", i) for u in range(10) for i in range(3)],
            r"test_share = 0.2 asks for 2 of 10 users, and 0 come so late",
        ),
        (
            [(f"u{u}", f"i{i}", i + (u == 0)) for u in range(40) for i in range(3)],
            r"test_share = 0.2 asks for 8 of 40 users, and 1 come so late",
        ),
    ],
)
def test_what_time_cannot_part_says_why(log: list[Event], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(log)


def first_of(rows: pl.DataFrame, tasks: Tasks) -> int:
    """Return the time of the first row of some tasks' users, in microseconds."""
    theirs = rows.filter(pl.col(schema.USER_ID).is_in(tasks.user_id))
    return int(theirs[schema.TIMESTAMP].dt.epoch("us").to_numpy().min())


def test_a_cold_users_past_holds_what_is_withheld_of_others() -> None:
    """It is counted at the user's own cut time, though no model learned from it."""
    log, folder = generate(SyntheticConfig(num_users=150, num_items=60), seed=0), MemoryFolder()
    late = pl.DataFrame(log.interactions).with_columns(
        # Half of each user's rows are two months later, so that many lie beyond the cuts.
        pl.when(pl.int_range(pl.len()) % 2 == 1)
        .then(pl.col(schema.TIMESTAMP) + pl.duration(days=60))
        .otherwise(pl.col(schema.TIMESTAMP))
    )
    config = BuildTasksConfig(
        split=SplitConfig(split="global-time", support_size=100, query_size=100)
    )
    write_tasks(
        config,
        log_dataset(late),
        pl.LazyFrame(log.users),
        pl.LazyFrame(log.items),
        folder / "tasks",
        text_vectors=folder / "text_vectors",
    )
    task_set = TaskSet(folder / "tasks")
    spec, test = task_set.spec, task_set.tasks("test")
    assert (spec.split, spec.temporal) == ("global-time", True)
    assert abs(len(test) - 30) <= 1
    joined, train = task_set.joined(), task_set.tasks("train")
    everybody = joined.tasks("train")
    assert joined.spec.num_tasks["train"] == len(everybody) > len(train)
    assert set(everybody.user_id) >= set(train.user_id) | set(task_set.tasks("dev").user_id)
    assert not set(everybody.user_id) & set(test.user_id)
    num_rows = len(everybody.support.item) + len(everybody.query.item)
    assert num_rows == int((late[schema.TIMESTAMP].dt.epoch("us") < first_of(late, test)).sum())
    history = task_set.history()
    assert spec.num_interactions < len(history) <= len(late)
    times = np.sort(late[schema.TIMESTAMP].dt.epoch("us").to_numpy())
    assert history.time is not None
    np.testing.assert_array_equal(np.sort(history.time), times)
    counts = history.counts(test.cut_time, None).sum(1)
    np.testing.assert_array_equal(counts, np.searchsorted(times, test.cut_time))
    known = task_set.statistics().num_users[test.snapshot].sum(1)
    assert (known <= counts).all()
    assert (known > 0.9 * counts).all()
