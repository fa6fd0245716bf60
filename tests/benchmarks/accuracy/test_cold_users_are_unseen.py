"""Nobody reads a cold user's row before the final evaluation."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_logs import small_log

from benchmarks.accuracy import cells, implicit, meta_learned, states, temporal
from benchmarks.accuracy.arrival import first_times
from benchmarks.accuracy.cells import Cell
from benchmarks.accuracy.learners import LEARNERS, Fitted, Learner
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.protocols import PROTOCOLS
from recmeta.features.text_vectors import TEXT_VECTOR
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.recipes import RECIPES
from recmeta.tasks.task_set import Tasks
from recmeta.training.config import MetaTrainConfig
from recmeta.training.recipes import training_of
from recmeta.workspace import Folder

RATING_BASELINES = [
    n for n, one in LEARNERS.items() if one.is_baseline and "rating" in one.objectives
]
IMPLICIT_BASELINES = [
    n for n, one in LEARNERS.items() if one.is_baseline and "implicit" in one.objectives
]
TRAINING_OF = {
    "maml": training_of("maml"),
    "maml-median": RECIPES["maml-ml1m"]().train,
    "bayesian-linear": training_of("bayesian-linear"),
    "bayesian-linear-text": training_of("bayesian-linear"),
}
LIBRARY = {"boosted-trees": "lightgbm", "ials": "implicit"}


def poisoned(log: Log, is_cold: np.ndarray) -> Log:
    """Return the log with NaN for the value, and another item, in every row of cold users."""
    return dataclasses.replace(
        log,
        value=np.where(is_cold, np.float32(np.nan), log.value),
        item=np.where(is_cold, (log.item + 1) % log.num_items, log.item),
    )


def short(name: str) -> MetaTrainConfig:
    """Return how a meta-learner trains, for two epochs."""
    return dataclasses.replace(TRAINING_OF[name], training=TrainingConfig(epochs=2))


def log_for(name: str, num_users: int = 80) -> Log:
    """Return a small log, with vectors of texts for a learner that reads them."""
    log = small_log(num_users=num_users)
    if not LEARNERS[name].reads_texts:
        return log
    numbers = np.random.default_rng(0).normal(size=(log.num_items, 70)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), 70)
    attributes = log.items.attributes.append_column(TEXT_VECTOR, column)
    return dataclasses.replace(log, items=dataclasses.replace(log.items, attributes=attributes))


def fitted(name: str, problem: Problem, folder: Path) -> Fitted:
    if name in LIBRARY:
        pytest.importorskip(LIBRARY[name])
    if LEARNERS[name].is_baseline:
        return LEARNERS[name].fit(problem, Folder.at(folder), 0)
    found = meta_learned.fit(name, short(name), problem, Folder.at(folder), 0)
    return Fitted(predictors=dict.fromkeys(problem.development, found.predictor), chosen={})


def assert_same(first: Fitted, second: Fitted, cold: dict[str, Tasks], *, graded: bool) -> None:
    """Both must choose alike, and predict the same bits for the true cold users."""
    assert first.chosen == second.chosen
    for state, predictor in first.predictors.items():
        other = second.predictors[state]
        scores = [
            p.score_query(cold[state]) if graded else p.score_items(cold[state])
            for p in (predictor, other)
        ]
        assert np.isfinite(scores[0]).all()
        np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", [*RATING_BASELINES, *TRAINING_OF])
def test_in_the_four_states(name: str, tmp_path: Path) -> None:
    log = log_for(name)
    assert log.state is not None
    blind = poisoned(log, log.state != "warm")
    fits = [
        fitted(name, states.problem(given, "filtered", 0), tmp_path / label)
        for label, given in (("true", log), ("blind", blind))
    ]
    assert_same(*fits, states.cold_users(log, 0), graded=True)


@pytest.mark.parametrize("name", ["item-mean-user-bias", "mf-fold-in", *TRAINING_OF])
def test_in_time_order(name: str, tmp_path: Path) -> None:
    log = log_for(name, num_users=120)
    assert log.time is not None
    arrivals = np.sort(first_times(log))
    blind = poisoned(log, log.time >= arrivals[round(0.8 * len(arrivals))])
    fits = [
        fitted(name, temporal.problem(given, "all", 0), tmp_path / label)
        for label, given in (("true", log), ("blind", blind))
    ]
    assert_same(*fits, temporal.cold_users(log, 0), graded=True)


@pytest.mark.parametrize("name", [*IMPLICIT_BASELINES, "maml", "bayesian-linear"])
def test_of_implicit_feedback(name: str, tmp_path: Path) -> None:
    log = small_log(graded=False)
    cold = implicit.random_cold_users(log, 0)
    numbers = [int(user[1:]) for user in cold["user_cold"].user_id]
    blind = poisoned(log, np.isin(log.user, numbers))
    fits = [
        fitted(name, implicit.random_problem(given, "all", 0), tmp_path / label)
        for label, given in (("true", log), ("blind", blind))
    ]
    assert_same(*fits, cold, graded=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cell_asks_for_cold_users_after_learning(protocol: str, tmp_path: Path) -> None:
    asked: list[str] = []

    def told(what: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            asked.append(what)
            return function(*arguments)

        return call

    log = small_log(num_users=120, graded=PROTOCOLS[protocol].objective == "rating")
    watched = dataclasses.replace(
        PROTOCOLS[protocol],
        problem=told("problem", PROTOCOLS[protocol].problem),
        cold_users=told("cold users", PROTOCOLS[protocol].cold_users),
    )
    learner: Learner = dataclasses.replace(
        LEARNERS["popularity"], fit=told("learn", LEARNERS["popularity"].fit)
    )
    cell = Cell(protocol=protocol, learner="popularity", training=watched.trainings[0], seed=0)
    cells.run(cell, watched, learner, log, Folder.at(tmp_path))
    assert asked == ["problem", "learn", "cold users"]
