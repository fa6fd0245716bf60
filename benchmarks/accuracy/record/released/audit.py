"""What each project's released code says of the same lists as our metrics, and why they differ."""

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
from benchmarks.accuracy.record.top_rated import top_rated
from recmeta.evaluation.metrics.errors.mae import mae
from recmeta.evaluation.metrics.query_order.ndcg import ndcg
from recmeta.evaluation.predictor import Scores, query_scores
from recmeta.tasks.episodes import concatenate
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.workspace import MemoryFolder

LEARNER = "item-mean-user-bias"
"""Whose lists are scored beside the perfect and the random one: simple, and good."""
ENOUGH = 20
"""Query rows of a user of whom precision@10 says something."""
Row = dict[str, Any]


class Asked(Protocol):
    """What the command was told."""

    code: Path
    """Folder of the checkouts."""
    data: Path | None
    """Folder of the data sets."""
    epochs: int
    """Of MeLU's training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """A project, what is odd about its figures, and how that is measured."""

    project: Project
    reason: str
    rows: Callable[["Audit", Asked], list[Row]]

    def found(self, asked: Asked) -> dict[str, Any]:
        """Return what is kept of it, JSON-ready."""
        return {
            "name": self.project.name,
            "repository": self.project.repository,
            "commit": self.project.commit,
            "reason": self.reason,
            "rows": self.rows(self, asked),
        }


def _lists(problem: Problem, tasks: Tasks) -> dict[str, Scores]:
    """Return (N,) what every query row is ordered by in three lists."""
    fitted = LEARNERS[LEARNER].fit(problem, MemoryFolder(), 0)
    return {
        "perfect": tasks.query.value.astype(np.float64),
        "random": np.random.default_rng(0).random(len(tasks.query.item)),
        LEARNER: query_scores(fitted.predictors[STATE], tasks).order_N,
    }


def _scored(
    audit: Audit, code: Path, adaptor: str, arrays: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Return what the released code says, by list and metric."""
    with tempfile.TemporaryDirectory() as temporary:
        given, said = Path(temporary) / "lists.npz", Path(temporary) / "said.json"
        np.savez(given, **arrays)
        audit.project.run(code, adaptor, given, said)
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


def _hire(audit: Audit, asked: Asked) -> list[Row]:
    log = datasets.read("ml-1m", asked.data)
    tasks = contexts.cold_users(log, 0)[STATE]
    # Released is a score of all 32 columns, those shown among them.
    whole = dataclasses.replace(tasks, query=concatenate(tasks.support, tasks.query))
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
    said = _scored(audit, asked.code, "run_hire.py", arrays)
    rows = []
    for name, scores in lists.items():
        ours = top_rated(scores[is_query], tasks.query, (5,))
        ours["ndcg@5_linear"] = ndcg(scores[is_query], tasks.query, 5)
        rows += [_row(name, m, v, ours[m].mean(), len(tasks)) for m, v in said[name].items()]
    return rows


def _tanp(audit: Audit, asked: Asked) -> list[Row]:
    log = datasets.read("ml-1m", asked.data)
    tasks = TANP.cold_users(log, 0)[STATE]
    lists = _lists(TANP.problem(log, "filtered", 0), tasks)
    said = _scored(audit, asked.code, "run_tanp.py", _ragged(tasks.query, lists))
    rows = []
    for name, scores in lists.items():
        ours = top_rated(scores, tasks.query, (5, 10))
        for k in (5, 10):
            says_something = tasks.query.lengths >= (ENOUGH if k == 10 else k)
            for metric in (f"precision@{k}", f"map@{k}"):
                of = ours[metric][says_something]
                rows.append(_row(name, metric, said[name][metric], of.mean(), len(of)))
    return rows


def _metarec(audit: Audit, asked: Asked) -> list[Row]:
    log = datasets.read("ml-100k", asked.data)
    tasks = METAREC.cold_users(log, 0)[STATE]
    lists = _lists(METAREC.problem(log, "filtered", 0), tasks)
    said = _scored(audit, asked.code, "run_metarec.py", _ragged(tasks.query, lists))
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
MELU_EPOCHS = 20
"""As its options.py has it; 20 CPU minutes."""


def _melu(audit: Audit, asked: Asked) -> list[Row]:
    log = datasets.read("ml-1m", asked.data)
    cold = states.cold_users(log, 0)
    with tempfile.TemporaryDirectory() as temporary:
        given, said = Path(temporary) / "tasks.npz", Path(temporary) / "said.npz"
        melu_tasks.write(states.problem(log, "filtered", 0), cold, given)
        audit.project.run(asked.code, "run_melu.py", given, str(asked.epochs), said)
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


AUDITS = {
    "HIRE": Audit(
        project=Project(
            name="HIRE",
            repository="https://github.com/FangShuheng/HIRE",
            commit="45b658e8defca75019c46b3241c9e34ee2913bc6",
        ),
        reason="Its test puts a user's items in the predicted order and then calls "
        "`random.shuffle` on that list (`train_eval.py`; its validation does not). The list is a "
        "tensor, whose rows are views: a place is given the item of an earlier place, and that "
        "place keeps it. So what is predicted best is listed several times, the nDCG of a perfect "
        "list is above 1, and MAP and nDCG of a good one are too high. The mask of what is scored "
        "holds the ratings that the network was given, too: `data_loader.py` sets it for support "
        "and query alike, so that a network that repeats them is paid for it. And every user of a "
        "context is scored, of whom 31 are not the cold user whom it was drawn for; that is not "
        "in the figures here. Scored like that, item means with the user's bias that repeat what "
        "they were shown are above what the paper's table has for HIRE. Corrected: the cold user's "
        "own row, what was shown left out, in the "
        "predicted order. Training the network itself takes hours without a GPU and was not "
        "repeated.",
        rows=_hire,
    ),
    "RecBole-MetaRec": Audit(
        project=Project(
            name="RecBole-MetaRec",
            repository="https://github.com/nuster1128/RecBole-MetaRec",
            commit="12ae2080566e93cac3a3a4cfa9472f8cb32e4e41",
        ),
        reason="Its collector takes the five of a user's ten query items that `torch.topk` puts "
        "first by rating as the relevant ones; among equal ratings, which most are, the order of "
        "the rows decides, and an item as well liked as a relevant one counts as a miss. As five "
        "of ten are relevant, precision and recall are one number, the hit rate is 1.0 for nearly "
        "every list, and a random list has a precision of 0.5. The table for MovieLens 100K that "
        "the project showed, and removed in June 2022, had 0.5345 for MeLU: with 58 cold users the "
        "standard error of a random list is 0.022, so that this is a random list. Its MeLU with "
        "second-order gradients (`getTaskGrad`) multiplies by I − H where the derivative of a step "
        "is I − αH: the inner rate α is missing; the table was made with the first-order variant. "
        "Corrected: precision counts an item as a hit as long as the five best ratings have its "
        "rating left, and nDCG takes the ratings themselves as gains.",
        rows=_metarec,
    ),
    "TaNP": Audit(
        project=Project(
            name="TaNP",
            repository="https://github.com/IIEdm/TaNP",
            commit="994f2a2e305bbee8ce10cccbf158811600be49ff",
            within="TaNP",
        ),
        reason="Its scorer compares ratings, which is sound, but at ten a user with ten query rows "
        "has 1.0 for any order. Corrected: precision and MAP at ten of users with at least "
        f"{ENOUGH} query rows. What the scorer cannot show: the users set aside for validation "
        "are never read, the test users are scored after every epoch, and which epoch is reported "
        "is not said; and by the released loader a user enters the network as a number of the "
        "user's own, whose weights for cold users stay as they were drawn: nothing trains them.",
        rows=_tanp,
    ),
    "MeLU": Audit(
        project=Project(
            name="MeLU",
            repository="https://github.com/hoyeoplee/MeLU",
            commit="f70c8ff91471193cd598bc241c6b0f22665f6375",
        ),
        reason="No evaluation is released. What is: `load_state_dict` copies the adapted weights "
        "into the network before the query and the first ones back after it, so that the gradient "
        "of the query's loss ends at the adapted weights, and the second-order part of the "
        "paper's equation is missing; and by the time of that gradient the weights are the first "
        "ones again, which PyTorch 1.1 does not notice, and later versions refuse. Here its model "
        "and its global update learn as under PyTorch 1.1, from the filtered warm users of "
        "`melu-ml1m`, seed 0, and adapt to that protocol's cold users; `as released` is what the "
        "paper publishes for MeLU-5, `corrected` what its code gives under the number of epochs "
        f"named (its options have {MELU_EPOCHS}).",
        rows=_melu,
    ),
}
"""By name; MeLU, which trains, last."""
