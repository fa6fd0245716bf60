"""What each project's released code says of the same lists as our metrics."""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.accuracy import datasets, states
from benchmarks.accuracy.learners import LEARNERS
from benchmarks.accuracy.problem import Problem
from benchmarks.accuracy.record import contexts
from benchmarks.accuracy.record.held_out_users import METAREC, STATE, TANP
from benchmarks.accuracy.record.released import melu_tasks
from benchmarks.accuracy.record.released.checkout import Project
from benchmarks.accuracy.record.released.projects import ENOUGH
from benchmarks.accuracy.record.top_rated import top_rated
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.evaluation.predictor import Scores, query_scores
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.workspace import MemoryFolder

LEARNER = "item-mean-user-bias"
"""Whose lists are scored beside the perfect and the random one: simple, and good."""
Row = dict[str, Any]


class Asked(Protocol):
    """What the command was told."""

    code: Path
    """Folder of the checkouts."""
    data: Path | None
    """Folder of the data sets."""
    epochs: int
    """Of MeLU's training."""


def _lists(problem: Problem, tasks: Tasks) -> dict[str, Scores]:
    """Return (N,) what every query row is ordered by in three lists."""
    fitted = LEARNERS[LEARNER].fit(problem, MemoryFolder(), 0)
    return {
        "perfect": tasks.query.value.astype(np.float64),
        "random": np.random.default_rng(0).random(len(tasks.query.item)),
        LEARNER: query_scores(fitted.predictors[STATE], tasks).order_N,
    }


def _scored(
    project: Project, code: Path, adaptor: str, arrays: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Return what the released code says, by list and metric."""
    with tempfile.TemporaryDirectory() as temporary:
        given, said = Path(temporary) / "lists.npz", Path(temporary) / "said.json"
        np.savez(given, **arrays)
        project.run(code, adaptor, given, said)
        found: dict[str, dict[str, float]] = json.loads(said.read_text(encoding="utf-8"))
    return found


def _row(name: str, metric: str, released: float, corrected: Any, num_lists: int) -> Row:
    return {
        "list": name,
        "metric": metric,
        "released": round(float(released), 6),
        "corrected": None if corrected is None else round(float(corrected), 6),
        "num_lists": num_lists,
    }


def _hire(project: Project, asked: Asked) -> list[Row]:
    log = datasets.read("ml-1m", asked.data)
    tasks = contexts.cold_users(log, 0)[STATE]
    # Released is a score of all 32 columns, those shown among them.
    whole = dataclasses.replace(tasks, query=tasks.rows)
    lists = _lists(contexts.problem(log, "warm", 0), whole)
    shape = (len(tasks), contexts.COLUMNS)
    where = (whole.query.task, whole.query.position)

    def spread(values: Any) -> Any:
        grid = np.zeros(shape)
        grid[where] = values
        return grid

    is_query = whole.query.position >= contexts.NUM_SUPPORT
    # What a network can do that is given the ratings of the support.
    lists[f"{LEARNER}, repeats what was shown"] = np.where(
        is_query, lists[LEARNER], whole.query.value
    )
    arrays = {name: spread(scores) for name, scores in lists.items()}
    arrays |= {"value": spread(whole.query.value), "known": spread(1.0)}
    said = _scored(project, asked.code, "run_hire.py", arrays)
    rows = []
    for name, scores in lists.items():
        ours = top_rated(scores[is_query], tasks.query, (5,))
        ours["ndcg@5_linear"] = ndcg(scores[is_query], tasks.query, 5)
        rows += [_row(name, m, v, ours[m].mean(), len(tasks)) for m, v in said[name].items()]
    return rows


def _tanp(project: Project, asked: Asked) -> list[Row]:
    log = datasets.read("ml-1m", asked.data)
    tasks = TANP.cold_users(log, 0)[STATE]
    lists = _lists(TANP.problem(log, "filtered", 0), tasks)
    said = _scored(project, asked.code, "run_tanp.py", _ragged(tasks.query, lists))
    rows = []
    for name, scores in lists.items():
        ours = top_rated(scores, tasks.query, (5, 10))
        for k in (5, 10):
            says_something = tasks.query.lengths >= (ENOUGH if k == 10 else k)
            for metric in (f"precision@{k}", f"map@{k}"):
                of = ours[metric][says_something]
                rows.append(_row(name, metric, said[name][metric], of.mean(), len(of)))
    return rows


def _metarec(project: Project, asked: Asked) -> list[Row]:
    log = datasets.read("ml-100k", asked.data)
    tasks = METAREC.cold_users(log, 0)[STATE]
    lists = _lists(METAREC.problem(log, "filtered", 0), tasks)
    said = _scored(project, asked.code, "run_metarec.py", _ragged(tasks.query, lists))
    rows = []
    for name, scores in lists.items():
        ours = {
            "precision@5": top_rated(scores, tasks.query, (5,))["precision@5"].mean(),
            "ndcg@5": ndcg(scores, tasks.query, 5).mean(),
        }
        rows += [
            _row(name, metric, value, ours.get(metric), len(tasks))
            for metric, value in said[name].items()
        ]
    return rows


MELU_PUBLISHED = {"user_cold": 0.785, "item_cold": 0.928, "user_and_item_cold": 0.924}


def _melu(project: Project, asked: Asked) -> list[Row]:
    log = datasets.read("ml-1m", asked.data)
    cold = states.cold_users(log, 0)
    with tempfile.TemporaryDirectory() as temporary:
        given, said = Path(temporary) / "tasks.npz", Path(temporary) / "said.npz"
        melu_tasks.write(states.problem(log, "filtered", 0), cold, given)
        project.run(asked.code, "run_melu.py", given, str(asked.epochs), said)
        with np.load(said) as predicted:
            error = {state: mae(predicted[state], cold[state].query) for state in cold}
    return [
        _row(
            f"{state}, {asked.epochs} epochs",
            "mae",
            MELU_PUBLISHED[state],
            values.mean(),
            len(values),
        )
        for state, values in error.items()
    ]


def _ragged(query: Ragged, lists: Mapping[str, Scores]) -> dict[str, Any]:
    return {"offsets": query.offsets, "value": query.value, **lists}


ROWS: dict[str, Callable[[Project, Asked], list[Row]]] = {
    "HIRE": _hire,
    "RecBole-MetaRec": _metarec,
    "TaNP": _tanp,
    "MeLU": _melu,
}


def found(project: Project, asked: Asked) -> dict[str, Any]:
    """Return what is kept of a project, JSON-ready: what its code says of each list, and we."""
    return {
        "name": project.name,
        "commit": project.commit,
        "rows": ROWS[project.name](project, asked),
    }
