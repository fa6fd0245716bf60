import numpy as np
import polars as pl
import pytest
from small_logs import shared_data, small_log

from benchmarks.accuracy import datasets, states
from benchmarks.accuracy.learners import MELU_FEATURES, melu_published
from benchmarks.accuracy.problem import Development
from recmeta.errors import UserError
from recmeta.tasks.task_set import Tasks

NUM_TASKS = {"user_cold": 668, "item_cold": 2863, "user_and_item_cold": 723}


def rows(tasks: Tasks) -> set[tuple[str, int]]:
    """Return every (user, item) of support and query."""
    ids = np.array(tasks.user_id)
    sides = (tasks.support, tasks.query)
    return {(str(u), int(i)) for s in sides for u, i in zip(ids[s.task], s.item, strict=True)}


def test_movielens_1m_has_the_documented_states() -> None:
    log = datasets.read("ml-1m", shared_data())
    assert log.about["verified"]["rows_warm"] == 640_448
    assert log.num_users == 6_040
    assert log.num_items == 3_881
    assert len(log.user) == 1_000_205  # four pairs occur twice
    cold = states.cold_users(log, seed=3)
    assert {state: len(tasks) for state, tasks in cold.items()} == NUM_TASKS
    for tasks in cold.values():
        assert (tasks.query.lengths == 10).all()
        total = tasks.support.lengths + tasks.query.lengths
        assert total.min() >= 13
        assert total.max() <= 100
    filtered = states.problem(log, "filtered", 3)
    assert len(filtered.train) == 2_653
    everything = states.problem(log, "all", 3)
    assert len(everything.train) == 4_832
    assert len(rows(everything.train)) == 640_444
    warm_users, warm_items = zip(*rows(everything.train), strict=True)
    assert not set(warm_users) & set(cold["user_cold"].user_id)
    assert not set(warm_items) & {i for _, i in rows(cold["user_and_item_cold"])}


def test_all_data_sets_are_verified() -> None:
    folder = shared_data()
    for name, source in datasets.SOURCES.items():
        log = datasets.read(name, folder)
        assert log.about["verified"] == source.counts
        pairs = log.user * log.num_items + log.item
        assert len(np.unique(pairs)) == len(pairs)
        assert (np.diff(log.user) >= 0).all()
        if log.time is not None:
            same_user = np.diff(log.user) == 0
            assert (np.diff(log.time)[same_user] >= 0).all()


def test_other_data_under_the_name_are_refused(tmp_path) -> None:
    folder = tmp_path / "lastfm-hetrec"
    folder.mkdir()
    with pytest.raises(UserError, match=r"interactions.parquet.*--data"):
        datasets.read("lastfm-hetrec", tmp_path)
    ids = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 1]})
    ids.write_parquet(folder / "interactions.parquet")
    ids.select("user_id").write_parquet(folder / "users.parquet")
    ids.select("item_id").unique().write_parquet(folder / "items.parquet")
    with pytest.raises(UserError, match="not the data set lastfm-hetrec"):
        datasets.read("lastfm-hetrec", tmp_path)


@pytest.mark.parametrize("training", ["filtered", "all"])
def test_judges_are_held_out(training: str) -> None:
    log = small_log()
    problem = states.problem(log, training, 0)
    assert log.state is not None
    ids = np.array(problem.train.user_id)
    assert set(ids) <= {f"u{u:03d}" for u in log.user[log.state == "warm"]}
    for development in problem.development.values():
        assert not rows(development.train) & rows(development.judges)
        assert rows(development.train) | rows(development.judges) <= rows(problem.train)
        assert len(development.judges) > 0
    of_users: Development = problem.development["user_cold"]
    assert not set(of_users.train.user_id) & set(of_users.judges.user_id)
    of_items = problem.development["item_cold"]
    assert not {i for _, i in rows(of_items.train)} & {i for _, i in rows(of_items.judges)}


def test_a_seed_draws_its_own_queries_and_the_same_each_time() -> None:
    log = small_log()
    first, again, other = (states.cold_users(log, seed)["user_cold"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.query.item, again.query.item)
    assert (first.query.item != other.query.item).any()
    assert rows(first) == rows(other)


def test_own_states_split_users_by_hash_and_items_by_year() -> None:
    log = states.with_states(small_log(num_users=500), 1995)
    assert log.state is not None
    year = log.items.attributes["year"].to_numpy()[log.item]
    new_item = np.isin(log.state, ["item_cold", "user_and_item_cold"])
    np.testing.assert_array_equal(new_item, year >= 1995)
    new_user = np.isin(log.state, ["user_cold", "user_and_item_cold"])
    by_user = [set(new_user[log.user == u]) for u in range(500)]
    assert all(len(kinds) == 1 for kinds in by_user)
    assert 0.1 < np.mean([True in kinds for kinds in by_user]) < 0.3


def test_what_melu_reads_is_there() -> None:
    folder = shared_data()
    for name, (users, items) in MELU_FEATURES.items():
        log = datasets.read(name, folder)
        assert set(users) <= set(log.profiles.column_names)
        assert set(items) <= set(log.items.attributes.column_names)
        features = melu_published(name, "rating").model.features
        assert (features.user_features, features.item_features) == (users, items)
        assert not features.use_item_id
