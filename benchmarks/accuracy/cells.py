"""A cell, which is one learner, one training and one seed: learn, then predict for the cold users
once, and keep the result.

A cell's key is the fingerprint of the data, of the code and of the settings. Its record is written
last, so that a run that was killed continues with the first incomplete cell.
"""

import contextlib
import dataclasses
import datetime
import io
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.accuracy import analysis, code
from benchmarks.accuracy.learners import Fitted, Learner
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.protocol import Protocol
from recmeta import config as configs
from recmeta import schema
from recmeta.evaluation.baseline import RANKING_K
from recmeta.evaluation.measuring.catalogue_metrics import ranking_of
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.metrics.errors.rmse import rmse
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.evaluation.predictor import Predictor, Scores, query_scores
from recmeta.records.provenance import git_commit, library_versions
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.workspace import Folder

RECORD, RESULT, TRAINING = "cell.json", "per_user.parquet", "training"
RECORD_VERSION = 2
USERS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A unit of work, which is done once."""

    protocol: str
    learner: str
    training: str
    seed: int

    def code(self, protocol: Protocol, learner: Learner) -> str:
        """Return the fingerprint of the code that decides the result."""
        shared = ("benchmarks.accuracy.datasets", "benchmarks.accuracy.search")
        return code.fingerprint(protocol.module, *shared, *learner.modules)

    def key(self, protocol: Protocol, learner: Learner, log: Log) -> str:
        """Return the name of its folder, which depends on data, code and settings."""
        asked, version = dataclasses.asdict(self), self.code(protocol, learner)
        settings = learner.settings(protocol.dataset, protocol.objective)
        parts = configs.fingerprint(RECORD_VERSION, asked, log.about["sha256"], version, settings)
        return f"{self.training}-{self.learner}-{self.seed}-{parts}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellResult:
    """The result of a cell."""

    record: dict[str, Any]
    """The record of the run: hyperparameters, minutes, versions."""
    per_user: pa.Table
    """A table with a row per state and user: `state`, `user_id` and a column per metric."""


def run(cell: Cell, protocol: Protocol, learner: Learner, log: Log, folder: Folder) -> CellResult:
    """Return a cell's result, from its folder if it was computed before."""
    if not folder.exists(RECORD):
        _fill(cell, protocol, learner, log, folder)
    return CellResult(
        record=folder.read_json(RECORD),
        per_user=pq.read_table(io.BytesIO(folder.read_bytes(RESULT))),
    )


def _fill(cell: Cell, protocol: Protocol, learner: Learner, log: Log, folder: Folder) -> None:
    # CPU time, since cells may share a machine with others.
    started = time.process_time()
    problem = protocol.problem(log, cell.training, cell.seed)
    fitted = learner.fit(problem, folder / TRAINING, cell.seed)
    trained = time.process_time()
    # The code above has not read the cold users; from here on nothing learns.
    cold = protocol.cold_users(log, cell.seed)
    warm = analysis.training_counts(problem), analysis.levels(problem)
    table = measure(fitted, cold, protocol, *warm)
    stream = io.BytesIO()
    pq.write_table(table, stream)
    folder.write_bytes(RESULT, stream.getvalue())
    folder.write_json(
        RECORD,
        {
            **dataclasses.asdict(cell),
            "chosen": fitted.chosen,
            "training_cpu_minutes": round((trained - started) / 60, 4),
            "adaptation_cpu_us": round(_adaptation_us(fitted, cold, protocol), 1),
            "cold_tasks": sum(len(cold[state]) for state in fitted.predictors if state in cold),
            "git_commit": git_commit(),
            "code": cell.code(protocol, learner),
            "libraries": library_versions(),
            "cpus": os.cpu_count(),
            "finished_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )
    with contextlib.suppress(FileNotFoundError):  # only meta-learners keep checkpoints
        shutil.rmtree(folder.local_path(TRAINING))


def measure(
    fitted: Fitted,
    cold: dict[str, Tasks],
    protocol: Protocol,
    count_I: IntArray,
    level_L: Float64Array,
) -> pa.Table:
    """Return every metric of every cold user, a row per state and user.

    Args:
        count_I: training rows of each item, for the analysis of the error.
        level_L: values of the rating scale, or none.
    """
    tables = []
    for state, tasks in cold.items():
        predictor = fitted.predictors.get(state)
        if predictor is None:
            continue
        if protocol.objective == "rating":
            found = rating_metrics(predictor, tasks, count_I, level_L, protocol.query_metrics)
        elif protocol.list_metrics is not None:
            found = protocol.list_metrics(predictor, tasks, len(count_I))
        else:
            found = ranking_of(predictor, tasks, len(count_I), RANKING_K)
        tables.append(
            pa.table(
                {
                    schema.STATE: pa.array([state] * len(tasks), pa.string()),
                    schema.USER_ID: tasks.profile[schema.USER_ID].combine_chunks(),
                    analysis.SUPPORT_ROWS: pa.array(tasks.support.lengths),
                    **found,
                }
            )
        )
    return pa.concat_tables(tables, promote_options="default")


def _adaptation_us(fitted: Fitted, cold: dict[str, Tasks], protocol: Protocol) -> float:
    """Return the CPU microseconds that one cold task takes: adapting to its support and predicting
    its query rows, or ranking the catalogue where feedback is implicit."""
    asked = {state: tasks for state, tasks in cold.items() if state in fitted.predictors}
    num_tasks = sum(map(len, asked.values()))
    started = time.process_time()
    for state, tasks in asked.items():
        for batch in tasks.batches(USERS_AT_ONCE):
            if protocol.objective == "rating":
                fitted.predictors[state].score_query(batch)
            else:
                fitted.predictors[state].score_items(batch)
    return 1e6 * (time.process_time() - started) / max(num_tasks, 1)


def rating_metrics(
    predictor: Predictor,
    tasks: Tasks,
    count_I: IntArray,
    level_L: Float64Array,
    more: Callable[[Scores, Ragged], dict[str, Float64Array]] | None = None,
) -> dict[str, Float64Array]:
    """Return (B,) metrics of the query rows by name; errors only of what predicts values.

    Args:
        more: gives metrics beside the usual ones, of what the query rows are ordered by.
    """
    parts = [query_scores(predictor, batch) for batch in tasks.batches(USERS_AT_ONCE)]
    predicted_N = np.concatenate([said.value_N for said in parts]).astype(np.float64)
    mean_N = np.concatenate([said.mean_N for said in parts]).astype(np.float64)
    order_N = np.concatenate([said.order_N for said in parts]).astype(np.float64)
    found: dict[str, Float64Array] = {}
    if predictor.predicts_values:
        found["mae"] = mae(predicted_N, tasks.query)
        if len(level_L):
            whole_N = analysis.rounded(predicted_N, level_L)
            found["mae_rounded"] = mae(whole_N, tasks.query)
        found["rmse"] = rmse(mean_N, tasks.query)
        found |= analysis.columns(predicted_N, tasks, count_I)
    for k in (1, 3, 5, 10):
        found[f"ndcg@{k}_linear"] = ndcg(order_N, tasks.query, k, "linear")
        found[f"ndcg@{k}_exponential"] = ndcg(order_N, tasks.query, k, "exponential")
    if more is not None:
        found |= more(order_N, tasks.query)
    return found
