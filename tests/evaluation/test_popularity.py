"""Popularity knows the past and nothing later, and forgets as fast as development users want."""

import dataclasses
import functools
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from pyarrow import dataset

from recmeta.errors import UserError
from recmeta.evaluation.baseline import Baseline, BaselineSearch, Trial, ranking_loss
from recmeta.evaluation.baselines.averages.popularity import (
    BASELINE,
    Popularity,
    PopularityConfig,
)
from recmeta.evaluation.fit_baselines import fit_baselines
from recmeta.steps.parts.task_building import BuildTasksConfig, write_tasks
from recmeta.tasks.task_set import Objective, Tasks, TaskSet
from recmeta.testing.baseline_conformance import BaselineConformance
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.workspace import MemoryFolder


@functools.cache
def task_set_of(config: SyntheticConfig) -> TaskSet:
    """Return a synthetic log as a task set that is cut by time."""
    log, folder = generate(config, seed=3), MemoryFolder()
    write_tasks(
        BuildTasksConfig(),
        dataset.dataset(log.interactions),
        pl.LazyFrame(log.users),
        pl.LazyFrame(log.items),
        folder / "tasks",
        text_vectors=folder / "text_vectors",
    )
    return TaskSet(folder / "tasks")


@pytest.fixture(scope="module", params=["rating", "implicit"])
def drifting(request: pytest.FixtureRequest) -> TaskSet:
    """Return a log of a year in which what is popular moves on every few days."""
    objective: Objective = request.param
    config = SyntheticConfig(
        num_users=500,
        num_items=120,
        rows_per_user=(4, 12),
        objective=objective,
        popularity_exponent=2.0,
        popularity_lap_days=120.0,
    )
    return task_set_of(config)


def test_recent_popularity_is_chosen_and_better_where_popularity_moves(drifting: TaskSet) -> None:
    trials: list[Trial] = []
    history, test = drifting.history(), drifting.tasks("test")
    train, dev = drifting.tasks("train"), drifting.tasks("dev")
    fitted = fit_baselines(
        drifting.spec, train, dev, on_trial=trials.append, names=["popularity"], history=history
    )
    assert [trial.config["half_life_days"] for trial in trials] == [None, 90, 30, 14, 7, 3, 1]
    assert {trial.measure for trial in trials} == {"dev_ranking_loss"}
    popularity = fitted["popularity"]
    assert isinstance(popularity, Popularity)
    chosen = popularity.config.half_life_days
    assert chosen == min(trials, key=lambda trial: trial.loss).config["half_life_days"]
    assert chosen is not None
    assert chosen <= 30
    whole = Popularity.fit(train, drifting.spec.num_items, history)
    recent, ever = (
        1 - ranking_loss(one, test, drifting.spec.num_items) for one in (popularity, whole)
    )
    assert recent > 1.5 * ever


def test_what_comes_later_changes_nothing(drifting: TaskSet) -> None:
    history, test = drifting.history(), drifting.tasks("test")
    assert history.time is not None
    border = int(np.median(test.cut_time))
    early = test.take(np.flatnonzero(test.cut_time <= border))
    known = history.time < border
    past = dataclasses.replace(history, time=history.time[known], item=history.item[known])
    for days in (None, 7.0):
        config = PopularityConfig(half_life_days=days)
        of_all, of_past = Popularity(history, config), Popularity(past, config)
        np.testing.assert_array_equal(of_all.score_items(early), of_past.score_items(early))
        np.testing.assert_array_equal(of_all.score_query(early), of_past.score_query(early))


def test_a_half_life_is_above_0() -> None:
    with pytest.raises(UserError, match="half_life_days is 0"):
        PopularityConfig(half_life_days=0.0)


class TestPopularityOverTime(BaselineConformance):
    """On tasks that are cut by time, so that each user meets other counts."""

    baseline: ClassVar[Baseline] = BASELINE
    reads_support: ClassVar[bool] = False

    @pytest.fixture
    def task_set(self, objective: Objective) -> TaskSet:
        return task_set_of(dataclasses.replace(self.config, objective=objective))

    @pytest.fixture
    def search(self, task_set: TaskSet) -> BaselineSearch:
        return self.search_of(task_set)

    @pytest.fixture
    def test(self, task_set: TaskSet) -> Tasks:
        return task_set.tasks("test")
