"""A few interactions per new user become tasks, and every row is accounted for."""

import dataclasses
import datetime

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.serving.new_user_tasks import tasks_for_new_users
from recmeta.tasks.task_set import Tasks


def rows(tasks: Tasks) -> dict[str, list[tuple[int, float]]]:
    """Return item numbers and values by user."""
    side = tasks.support
    bounds = zip(tasks.user_id, side.offsets[:-1], side.offsets[1:], strict=True)
    pairs = list(zip(side.item.tolist(), side.value.tolist(), strict=True))
    return {user: pairs[a:b] for user, a, b in bounds}


def table(*events: tuple[object, ...], names: str = "user_id item_id value") -> pa.Table:
    return pa.table(
        {n: list(c) for n, c in zip(names.split(), zip(*events, strict=True), strict=True)}
    )


def test_users_become_tasks_in_the_order_of_their_ids(model: Model) -> None:
    events = table(("b", "i03", 3.0), ("a", "i07", 4.0), ("b", "i00", 2.5))
    tasks, counts = tasks_for_new_users(model, events)
    assert rows(tasks) == {"a": [(7, 4.0)], "b": [(3, 3.0), (0, 2.5)]}
    assert counts.rows == counts.used == 3
    assert counts.users == counts.without_profile == 2
    assert len(tasks.query.item) == 0
    assert Scorer.of(model).adapt(tasks)["user"].isfinite().all()


def test_the_latest_of_two_rows_counts(model: Model) -> None:
    events = table(("a", "i01", 4.0), ("a", "i02", 3.0), ("a", "i01", 2.0))
    tasks, counts = tasks_for_new_users(model, events)
    assert rows(tasks) == {"a": [(2, 3.0), (1, 2.0)]}
    assert counts.duplicates == 1
    timed = events.append_column("timestamp", pa.array([30, 20, 10]))
    assert rows(tasks_for_new_users(model, timed)[0]) == {"a": [(2, 3.0), (1, 4.0)]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, 1e6, -1e6])
def test_bad_values_are_dropped_and_counted(model: Model, value: float | None) -> None:
    events = table(("a", "i01", value), ("a", "i02", 3.0))
    tasks, counts = tasks_for_new_users(model, events)
    assert rows(tasks) == {"a": [(2, 3.0)]}
    assert (counts.bad_values, counts.used, counts.rows) == (1, 1, 2)


def test_unknown_items_are_dropped_and_counted(model: Model) -> None:
    tasks, counts = tasks_for_new_users(model, table(("a", "nope", 3.0), ("b", " i02 ", 3.0)))
    assert rows(tasks) == {"a": [], "b": [(2, 3.0)]}
    assert (counts.unknown_items, counts.without_interactions) == (1, 1)


def test_a_row_without_an_item_only_names_a_user(model: Model) -> None:
    tasks, counts = tasks_for_new_users(model, table(("a", None, None), ("b", "", 3.0)))
    assert rows(tasks) == {"a": [], "b": []}
    assert (counts.rows, counts.users, counts.without_interactions) == (0, 2, 2)


def test_nobody_is_nobody(model: Model) -> None:
    empty = pa.table(
        {
            n: pa.array([], t)
            for n, t in (
                ("user_id", pa.string()),
                ("item_id", pa.string()),
                ("value", pa.float64()),
            )
        }
    )
    tasks, counts = tasks_for_new_users(model, empty)
    assert len(tasks) == 0
    assert set(dataclasses.asdict(counts).values()) == {0}


def test_profiles_are_joined_and_users_only_there_are_served(model: Model) -> None:
    profiles = pa.table({"user_id": ["c", "a"], "group": ["group-1", "group-2"]})
    tasks, counts = tasks_for_new_users(
        model, table(("a", "i01", 3.0), ("b", "i02", 3.0)), profiles
    )
    assert tasks.user_id == ["a", "b", "c"]
    assert tasks.profile["group"].to_pylist() == ["group-2", None, "group-1"]
    assert (counts.users, counts.without_profile, counts.without_interactions) == (3, 1, 1)


def test_implicit_feedback_needs_no_value(implicit_model: Model) -> None:
    events = table(("a", "i03"), ("a", "i05"), names="user_id item_id")
    tasks, counts = tasks_for_new_users(implicit_model, events)
    assert rows(tasks) == {"a": [(3, 1.0), (5, 1.0)]}
    assert counts.bad_values == 0


def test_a_return_is_no_positive(implicit_model: Model) -> None:
    events = table(("a", "i03", 6.0), ("a", "i05", -6.0), ("a", "i07", None))
    tasks, counts = tasks_for_new_users(implicit_model, events)
    assert rows(tasks) == {"a": [(3, 1.0), (7, 1.0)]}
    assert counts.bad_values == 1


@pytest.mark.parametrize(
    "timestamp",
    [
        pa.array([2, 1]),
        pa.array([2.5, 1.5]),
        pa.array([2, None]),
        pa.array(["2020-01-01 00:00:02", "2020-01-01 00:00:01"]),
        pa.array(["2020-01-01T00:00:02Z", "2020-01-01T00:00:01Z"]),
        pa.array([2, 1], pa.timestamp("s", tz="UTC")),
        pa.array([2_000_000_001, 1_000_000_001], pa.timestamp("ns")),
        pa.array([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)]),
    ],
)
def test_times_in_any_type_give_the_order(model: Model, timestamp: pa.Array) -> None:
    events = table(("a", "i02", 3.0), ("a", "i01", 3.0)).append_column("timestamp", timestamp)
    assert rows(tasks_for_new_users(model, events)[0]) == {"a": [(1, 3.0), (2, 3.0)]}


def test_times_that_are_none_are_said_to_be(model: Model) -> None:
    events = table(("a", "i02", 3.0)).append_column("timestamp", pa.array(["yesterday"]))
    with pytest.raises(UserError, match=r"'timestamp'.*yesterday"):
        tasks_for_new_users(model, events)


def test_mistakes_are_named(model: Model) -> None:
    with pytest.raises(UserError, match=r"no column 'item_id'.*Did you mean 'itemid'"):
        tasks_for_new_users(model, table(("a", "i01", 3.0), names="user_id itemid value"))
    with pytest.raises(UserError, match="row 2 of the new users has no user_id"):
        tasks_for_new_users(model, table(("a", "i01", 3.0), ("", "i01", 3.0)))
    with pytest.raises(UserError, match="'value' of the new users is not numeric"):
        tasks_for_new_users(model, table(("a", "i01", "good")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", " b", "c"]),
            st.sampled_from(["i01", "i02", "x", "", None]),
            st.sampled_from([1.5, 3.0, -99.0, float("nan"), None]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_row_is_accounted_for(
    model: Model, events: list[tuple[str, str | None, float | None]]
) -> None:
    tasks, counts = tasks_for_new_users(model, table(*events))
    assert counts.rows == sum(bool(item) for _, item, _ in events)
    assert counts.rows == (
        counts.used + counts.duplicates + counts.unknown_items + counts.bad_values
    )
    kept = rows(tasks)
    assert list(kept) == sorted({user.strip() for user, _, _ in events})
    for user, own in kept.items():
        expected: dict[int, float] = {}
        for name, item, value in events:
            if name.strip() == user and item in ("i01", "i02") and value in (1.5, 3.0):
                expected.pop(int(item[1:]), None)
                expected[int(item[1:])] = value
        assert own == list(expected.items())
