"""Who is cold by time, and what the implicit protocols ask."""

import numpy as np
import pytest
from small_logs import small_log

from benchmarks.accuracy import implicit, temporal
from benchmarks.accuracy.arrival import first_times
from benchmarks.accuracy.log import Log
from recmeta.tasks.task_set import Tasks


def times(log: Log, tasks: Tasks) -> np.ndarray:
    """Return the time of every support and query row."""
    assert log.time is not None
    number = {name: place for place, name in enumerate(log.profiles["user_id"].to_pylist())}
    time_of = dict(
        zip(zip(log.user.tolist(), log.item.tolist(), strict=True), log.time, strict=True)
    )
    return np.array(
        [
            time_of[number[tasks.user_id[task]], int(item)]
            for side in (tasks.support, tasks.query)
            for task, item in zip(side.task, side.item, strict=True)
        ]
    )


@pytest.fixture
def log() -> Log:
    return small_log(num_users=150)


def test_nothing_is_learned_from_what_came_after_the_first_cold_user(log: Log) -> None:
    problem = temporal.problem(log, "all", 0)
    cold = temporal.cold_users(log, 0)
    first_U = first_times(log)
    arrivals = np.sort(first_U)
    cut = arrivals[round(0.8 * len(arrivals))]
    assert times(log, problem.train).max() < cut
    assert times(log, cold["shots=20"]).min() >= cut
    development = problem.development["shots=0"]
    assert times(log, development.judges).max() < cut
    assert times(log, development.train).max() <= times(log, development.judges).min()


def test_the_queries_are_the_same_at_every_number_of_shots(log: Log) -> None:
    cold = temporal.cold_users(log, 0)
    assert list(cold) == [f"shots={k}" for k in temporal.SHOTS]
    for shots in temporal.SHOTS:
        tasks = cold[f"shots={shots}"]
        assert (tasks.support.lengths == shots).all()
        np.testing.assert_array_equal(tasks.query.item, cold["shots=20"].query.item)
        assert tasks.user_id == cold["shots=20"].user_id
    few, many = cold["shots=5"].support, cold["shots=20"].support
    np.testing.assert_array_equal(few.item, many.first(5).item)


def test_support_comes_before_query(log: Log) -> None:
    tasks = temporal.cold_users(log, 0)["shots=20"]
    for place in range(len(tasks)):
        one = tasks.take(np.array([place]))
        time = times(log, one)
        assert time[:20].max() <= time[20:].min()
        assert 10 <= len(time) - 20 <= 20


def test_the_first_basket_is_known_and_later_ones_are_asked_for(log: Log) -> None:
    tasks = implicit.baskets_cold_users(log, 0)["user_cold"]
    assert (tasks.support.lengths == 5).all()
    assert (tasks.query.lengths == 85).all()
    pairs = [set(side.task * log.num_items + side.item) for side in (tasks.support, tasks.query)]
    assert not pairs[0] & pairs[1]
    problem = implicit.baskets_problem(log, "all", 0)
    assert times(log, problem.train).max() < times(log, tasks).min()


def test_random_cold_listeners_are_not_in_training() -> None:
    log = small_log(graded=False)
    for seed in (0, 1):
        problem = implicit.random_problem(log, "all", seed)
        cold = implicit.random_cold_users(log, seed)["user_cold"]
        assert len(cold) == 16
        assert (cold.query.lengths == 10).all()
        assert not set(problem.train.user_id) & set(cold.user_id)
        assert len(problem.train) == 64
        development = problem.development["user_cold"]
        assert not set(development.train.user_id) & set(development.judges.user_id)
