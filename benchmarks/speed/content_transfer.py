"""The value of content learned on another data set when there are few users to train on.

Users of the target who appear before the temporal protocol's cold ones are cut by the seed: some
are measured, some stop training early, a share of the others trains. Each learner begins without
the source, from its content and free to change it, and from its content kept as it is. Cold users
are not looked at.

Legend: U measured users.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import datasets, temporal
from benchmarks.accuracy.arrival import before, first_cold, halves
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.meta_learned import judged_on, write_task_set
from benchmarks.accuracy.problem import (
    Development,
    Problem,
    lengths,
    ranks,
    tasks_of,
    value_range,
)
from benchmarks.speed.result import BenchmarkResult, Row, machine
from recmeta.evaluation.comparison.bootstrap import mean_intervals
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.progress import Progress, silent
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Tasks
from recmeta.training.config import MetaTrainConfig
from recmeta.training.fit import fit
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder

NAME = "content-transfer"
LEARNERS = ("bayesian-linear", "anil")
SHARES = (0.05, 0.2, 1.0)
SHOTS = (0, 5, 20)
ARMS = ("none", "fine-tuned", "frozen")
MEASURED_SHARE, STOPPING_SHARE = 0.3, 0.1
MOST_SOURCE_USERS = 2000
FEATURES = FeatureConfig(user_features=("gender", "occupation"), item_features=("year", "genres"))
"""Attributes that MovieLens 100K and 1M both have; of the occupations seven are spelled alike."""


def run(
    source: str,
    target: str,
    *,
    data: Path | None = None,
    learners: Sequence[str] = LEARNERS,
    num_seeds: int = 5,
    progress: Progress = silent,
) -> BenchmarkResult:
    """Return the mean absolute error of each start, and its paired difference from no transfer.

    Args:
        source: a data set of the protocols, with times.
        target: another one.
        data: the folder of the data sets; by default $RECMETA_SHARED_DATA, else ../shared/data.
    """
    logs = {name: datasets.read(name, data) for name in (source, target)}
    found: dict[tuple[str, float, str, int], list[dict[str, float]]] = {}
    total = num_seeds * len(learners) * len(SHARES) * len(ARMS)
    done = 0
    for seed in range(num_seeds):
        problems = {share: _problem(logs[target], share, seed) for share in SHARES}
        for learner in learners:
            teacher = _train(learner, _source_problem(logs[source], seed), seed)
            for share, (problem, measured) in problems.items():
                for arm in ARMS:
                    model = _train(learner, problem, seed, teacher, arm)
                    for shots in SHOTS:
                        key = (learner, share, arm, shots)
                        found.setdefault(key, []).append(_errors(model, measured, shots))
                    done += 1
                    progress(NAME, done, total)
    sizes = {
        share: len(next(iter(p.development.values())).train) for share, (p, _) in problems.items()
    }
    return BenchmarkResult(
        name=NAME,
        title=f"Content from {source} to {target}, {num_seeds} seeds",
        columns=("learner", "training_users", "shots", "content", "mae", "difference", "interval"),
        rows=[
            _row(
                learner,
                sizes[share],
                arm,
                shots,
                found[learner, share, arm, shots],
                found[learner, share, "none", shots],
            )
            for learner in learners
            for share in SHARES
            for shots in SHOTS
            for arm in ARMS
        ],
        machine=machine("recmeta", "torch"),
    )


def _row(
    learner: str,
    num_users: int,
    arm: str,
    shots: int,
    errors: list[dict[str, float]],
    without: list[dict[str, float]],
) -> Row:
    """Return the mean over users, each averaged over the seeds that measured it."""
    users = sorted(set().union(*errors))

    def of(found: list[dict[str, float]]) -> Float64Array:
        return np.array([np.mean([one[u] for one in found if u in one]) for u in users])

    mean, difference = mean_intervals(
        np.stack([of(errors), of(errors) - of(without)], axis=1), np.random.default_rng(0)
    )
    low, high = difference.ci_low, difference.ci_high
    return {
        "learner": learner,
        "training_users": num_users,
        "shots": shots,
        "content": arm,
        "mae": round(mean.mean, 4),
        "difference": None if arm == "none" else round(difference.mean, 4),
        "interval": None if arm == "none" else f"[{low:+.4f}, {high:+.4f}]",
        "measured_users": mean.num_users,
    }


def _train(
    learner: str, problem: Problem, seed: int, teacher: Model | None = None, arm: str = "none"
) -> Model:
    config = _config(learner, seed, frozen=arm == "frozen")
    source = None if arm == "none" else teacher
    with tempfile.TemporaryDirectory() as place:
        task_set = write_task_set(problem, judged_on(problem), Folder.at(place) / "tasks")
        begun = at_start(config, task_set, torch.device("cpu"), source=source)
        fit(config, begun, task_set, Folder.at(place), lambda _: None)
    return begun.model


def _config(learner: str, seed: int, *, frozen: bool) -> MetaTrainConfig:
    config = training_of(learner)
    model = dataclasses.replace(config.model, features=FEATURES)
    # `content_from` only says that there is a source; `at_start` gets the model itself.
    return dataclasses.replace(
        config, model=model, seed=seed, content_from="source", freeze_content=frozen
    )


def _source_problem(log: Log, seed: int) -> Problem:
    seen = before(log, first_cold(log, temporal.COLD_SHARE))
    users = np.random.default_rng([seed, 3]).permutation(np.unique(seen.user))
    some = seen.select(np.isin(seen.user, users[:MOST_SOURCE_USERS]))
    return temporal.problem(some, "all", seed)


def _problem(log: Log, share: float, seed: int) -> tuple[Problem, Tasks]:
    """Return the data for training, including early stopping, and the users for measurement."""
    seen = before(log, first_cold(log, temporal.COLD_SHARE))
    users = np.random.default_rng([seed, 4]).permutation(np.unique(seen.user))
    num_measured = round(MEASURED_SHARE * len(users))
    num_stopping = round(STOPPING_SHARE * len(users))
    measured, stopping, rest = np.split(users, [num_measured, num_measured + num_stopping])
    train = halves(seen.select(np.isin(seen.user, rest[: round(share * len(rest))])))
    judges = _tasks(seen, stopping)
    development = Development(
        train=train, judges=Tasks.joined([judges.with_shots(shots) for shots in temporal.SHOTS])
    )
    problem = Problem(
        name=log.about["name"],
        objective="rating",
        value_range=value_range(seen, np.arange(len(seen.user))),
        items=log.items,
        train=train,
        development={"all": development},
    )
    return problem, _tasks(seen, measured)


def _tasks(log: Log, users: IntArray) -> Tasks:
    """Return tasks as the temporal protocol's: 20 support rows, then 10 to 20 query rows."""
    place, support = ranks(log.user), max(temporal.SHOTS)
    enough = lengths(log.user) >= support + temporal.FEWEST_QUERY
    few = place < support + temporal.MOST_QUERY
    rows = np.flatnonzero(np.isin(log.user, users) & enough & few)
    return tasks_of(log, rows, place[rows] >= support, state="user_cold")


def _errors(model: Model, tasks: Tasks, shots: int) -> dict[str, float]:
    scorer, shown = Scorer.of(model), tasks.with_shots(shots)
    predicted = np.concatenate([scorer.score_query(some) for some in shown.batches(256)])
    error_U = mae(predicted.astype(np.float64), shown.query)
    return dict(zip(tasks.profile["user_id"].to_pylist(), error_U.tolist(), strict=True))
