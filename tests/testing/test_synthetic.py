"""The generator keeps its promises, and the optimum is one."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest

from recmeta import schema
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import (
    START,
    BayesOptimal,
    SyntheticConfig,
    SyntheticLog,
    generate,
    write_csv,
)
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.workspace import Folder

CONFIG = SyntheticConfig(num_users=200, num_items=40, rows_per_user=(4, 12))


@pytest.fixture
def log() -> SyntheticLog:
    return generate(CONFIG, seed=0)


@pytest.fixture
def task_set(log: SyntheticLog, tmp_path: Path) -> TaskSet:
    return write_task_set(log, Folder.at(tmp_path))


def test_a_seed_gives_one_log(log: SyntheticLog) -> None:
    again, other = generate(CONFIG, seed=0), generate(CONFIG, seed=1)
    for name in ("interactions", "users", "items"):
        assert getattr(log, name).equals(getattr(again, name))
        assert not getattr(log, name).equals(getattr(other, name))


@pytest.mark.parametrize("objective", ["rating", "implicit"])
def test_tables_are_those_of_the_schema(objective: str) -> None:
    log = generate(dataclasses.replace(CONFIG, objective=objective), seed=0)
    for name in log.interactions.column_names:
        assert log.interactions.schema.field(name).type == (
            schema.INTERACTIONS.columns.field(name).type
        )
    assert log.interactions.column_names == ["user_id", "item_id", "timestamp", "event", "value"]
    pairs = log.interactions.group_by(["user_id", "item_id"]).aggregate([])
    assert pairs.num_rows == log.interactions.num_rows
    lengths = log.interactions.group_by("user_id").aggregate([([], "count_all")])["count_all"]
    assert pc.min(lengths).as_py() >= 4
    assert pc.max(lengths).as_py() <= 12
    for table, number in ((log.users, 200), (log.items, 40)):
        ids = table.column(0).to_pylist()
        assert ids == sorted(set(ids))
        assert len(ids) == number
    times = log.interactions.group_by("user_id", use_threads=False).aggregate(
        [("timestamp", "list")]
    )
    assert all(row == sorted(row) for row in times["timestamp_list"].to_pylist())


def test_popularity_follows_its_power_law() -> None:
    config = SyntheticConfig(num_users=4000, num_items=50, rows_per_user=(1, 1))

    def shares(exponent: float) -> np.ndarray:
        log = generate(dataclasses.replace(config, popularity_exponent=exponent), seed=0)
        counts = pc.value_counts(log.interactions["item_id"]).field("counts").to_numpy()
        return np.sort(counts)[::-1] / 4000

    expected = np.arange(1, 51) ** -1.2
    np.testing.assert_allclose(shares(1.2)[:5], (expected / expected.sum())[:5], rtol=0.15)
    assert shares(0.0).max() < 0.035


def test_variances_are_as_configured() -> None:
    config = SyntheticConfig(num_users=5000, num_items=300, rows_per_user=(10, 10))
    truth = generate(config, seed=0).truth
    scale = np.array([config.user_bias_scale, *[config.preference_scale] * 2])
    np.testing.assert_allclose(truth.user_vector_Uw.std(0), scale, rtol=0.1)
    told = truth.prior_mean_Uw.var(0) / scale**2
    np.testing.assert_allclose(told, config.profile_share, rtol=0.1)
    np.testing.assert_allclose(truth.item_vector_Iw[:, 1:].std(0), 1.0, rtol=0.15)


def test_the_posterior_is_the_textbook_formula(log: SyntheticLog, task_set: TaskSet) -> None:
    """By conditioning the joint normal of a user's ratings, which inverts S × S, not w × w."""
    truth = log.truth
    tasks = task_set.tasks("test").take(np.arange(10))
    found = BayesOptimal(log).score_query(tasks)
    covariance = np.diag(truth.prior_variance_w)
    for b in range(10):
        one = tasks.take(np.array([b]))
        mean = truth.prior_mean_Uw[log.users["user_id"].to_pylist().index(one.user_id[0])]
        support, query = (truth.item_vector_Iw[s.item] for s in (one.support, one.query))
        noisy = support @ covariance @ support.T + truth.noise**2 * np.eye(len(support))
        surprise = one.support.value - truth.item_base_I[one.support.item] - support @ mean
        posterior = mean + covariance @ support.T @ np.linalg.solve(noisy, surprise)
        expected = truth.item_base_I[one.query.item] + query @ posterior
        np.testing.assert_allclose(found[tasks.query.task == b], expected, rtol=1e-9)


def test_nothing_of_the_same_form_beats_the_optimum(tmp_path: Path) -> None:
    """Shrinking more or less, or taking the profile for more or less than it says, is worse."""
    log = generate(SyntheticConfig(num_users=3000, num_items=60, rows_per_user=(12, 12)), seed=0)
    tasks = write_task_set(log, Folder.at(tmp_path), ShareConfig(num_support=5)).tasks("test")

    def error(**wrong: object) -> float:
        believed = dataclasses.replace(log, truth=dataclasses.replace(log.truth, **wrong))
        return float(np.mean((BayesOptimal(believed).score_query(tasks) - tasks.query.value) ** 2))

    best = error()
    truth = log.truth
    for wrong in (
        {"prior_variance_w": truth.prior_variance_w * 2.5},
        {"prior_variance_w": truth.prior_variance_w / 2.5},
        {"noise": truth.noise * 1.8},
        {"prior_mean_Uw": truth.prior_mean_Uw * 0.0},
        {"prior_mean_Uw": truth.prior_mean_Uw * 2.0},
    ):
        assert error(**wrong) > best
    # The error is what the formula says it is: noise, and the posterior's own uncertainty.
    assert best > truth.noise**2
    every = [tasks.with_shots(n) for n in (0, 1, 3, 5)]
    optimum = BayesOptimal(log)
    errors = [np.mean((optimum.score_query(t) - t.query.value) ** 2) for t in every]
    assert errors == sorted(errors, reverse=True)


def test_scores_of_items_agree_with_those_of_rows(log: SyntheticLog, task_set: TaskSet) -> None:
    tasks = task_set.tasks("test")
    scores = BayesOptimal(log).score_items(tasks)
    np.testing.assert_allclose(
        scores[tasks.query.task, tasks.query.item], BayesOptimal(log).score_query(tasks)
    )


def test_clicks_follow_preferences() -> None:
    config = dataclasses.replace(CONFIG, objective="implicit", num_users=500)
    log = generate(config, seed=0)
    liking = log.truth.user_vector_Uw @ log.truth.item_vector_Iw.T
    user = pc.index_in(log.interactions["user_id"], log.users["user_id"].combine_chunks())
    item = pc.index_in(log.interactions["item_id"], log.items["item_id"].combine_chunks())
    clicked = liking[user.to_numpy(), item.to_numpy()]
    assert clicked.mean() > liking.mean() + 0.5 * liking.std()
    assert set(log.interactions["value"].to_pylist()) == {1.0}
    with pytest.raises(ValueError, match="'rating' alone"):
        BayesOptimal(log)


def test_stars_are_the_same_ratings_on_a_scale(log: SyntheticLog) -> None:
    stars = generate(dataclasses.replace(CONFIG, num_stars=5), seed=0)
    value = log.interactions["value"].to_numpy()
    np.testing.assert_array_equal(
        stars.interactions["value"].to_numpy(), np.clip(np.round(value), 1, 5)
    )
    assert stars.interactions.drop_columns(["value"]).equals(
        log.interactions.drop_columns(["value"])
    )
    with pytest.raises(ValueError, match="not known where values are rounded"):
        BayesOptimal(stars)
    with pytest.raises(ValueError, match="num_stars is 1"):
        SyntheticConfig(num_stars=1)


def test_popularity_moves_on_where_ranks_have_laps() -> None:
    """In a year of two laps, what is popular in spring is so again in autumn, and not between."""
    config = dataclasses.replace(
        CONFIG, num_users=3000, popularity_exponent=2.0, popularity_lap_days=180.0
    )
    log = generate(config, seed=0)
    item = pc.index_in(log.interactions["item_id"], log.items["item_id"].combine_chunks())
    day = (log.interactions["timestamp"].cast(pa.int64()).to_numpy() / 1e6 - START) / 86_400
    of_day = [
        np.bincount(item.to_numpy()[np.abs(day - middle) < 15], minlength=40)
        for middle in (60, 150, 240)
    ]
    likeness = np.corrcoef(of_day)
    assert likeness[0, 2] > 0.9
    assert likeness[0, 1] < 0.3
    with pytest.raises(ValueError, match="popularity_lap_days is 0"):
        SyntheticConfig(popularity_lap_days=0.0)


def test_csv_files_say_the_same(log: SyntheticLog, tmp_path: Path) -> None:
    write_csv(log, tmp_path / "files")
    rows = csv.read_csv(tmp_path / "files" / "interactions.csv")
    assert rows["item_id"].to_pylist() == log.interactions["item_id"].to_pylist()
    assert rows["value"].to_pylist() == log.interactions["value"].to_pylist()
    micros = log.interactions["timestamp"].cast(pa.int64()).to_numpy()
    np.testing.assert_array_equal(rows["timestamp"].to_numpy() * 1_000_000, micros)
    items = csv.read_csv(tmp_path / "files" / "items.csv")
    tags = [row.split("|") if row else [] for row in items["tags"].to_pylist()]
    assert tags == log.items["tags"].to_pylist()
    assert csv.read_csv(tmp_path / "files" / "users.csv")["age"].to_pylist() == (
        log.users["age"].to_pylist()
    )


def test_a_task_set_holds_every_row_once(log: SyntheticLog, task_set: TaskSet) -> None:
    total, users = 0, []
    for split in ("train", "dev", "test"):
        tasks = task_set.tasks(split)
        assert len(tasks) == task_set.spec.num_tasks[split]
        total += len(tasks.support.item) + len(tasks.query.item)
        users += tasks.user_id
        assert (tasks.support.lengths <= 10).all()
        assert (tasks.query.lengths >= tasks.support.lengths).all()
        assert (tasks.query.counted == (split == "train")).all()
    assert total == log.interactions.num_rows == task_set.spec.num_interactions
    assert sorted(users) == log.users["user_id"].to_pylist()
    train = task_set.tasks("train")
    counts = sum(np.bincount(s.item, minlength=40) for s in (train.support, train.query))
    np.testing.assert_array_equal(task_set.statistics().num_users[-1], counts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows_per_user": (5, 2)},
        {"rows_per_user": (1, 41)},
        {"num_users": 0},
        {"profile_share": 1.5},
        {"noise": 0.0},
    ],
)
def test_impossible_worlds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(CONFIG, **wrong)
