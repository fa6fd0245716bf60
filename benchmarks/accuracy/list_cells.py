"""A cell of a protocol of lists, which is a learner and a seed: train as `recmeta run` does, then
rank for the cold users once.

The library does everything here: its split, training, baselines and metrics.
"""

import dataclasses
import io
import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.accuracy import code
from recmeta import schema
from recmeta.api.data.dataset import Dataset
from recmeta.evaluation.fit_baselines import BASELINES as BASELINE_FILES
from recmeta.evaluation.fit_baselines import fit_baselines
from recmeta.evaluation.judgement import MOST_SLOW_SCORES
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.measure import MetricSelection, measure
from recmeta.evaluation.measuring.values import describe
from recmeta.evaluation.metric import metric
from recmeta.evaluation.metrics.exposure.coverage import coverage
from recmeta.evaluation.predictor import Predictor
from recmeta.metalearn.heads.list_head import KNOTS, ListHead
from recmeta.metalearn.model import Model
from recmeta.metalearn.registry import LEARNERS
from recmeta.recipes import PipelineConfig
from recmeta.recipes.configuration import pipeline_config
from recmeta.tasks.task_set import Objective, Tasks, TaskSet
from recmeta.training.fit import fit_whole
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import Folder, MemoryFolder

SHOTS = (0, 1, 3, 5, 10, None)
"""The most support rows that are shown, or None for all."""
K = 10
LISTS, COVERAGE = f"full_ndcg@{K}", f"full_coverage@{K}"
METRICS: dict[Objective, tuple[str, ...]] = {
    "rating": (LISTS, COVERAGE, "mae", "rmse", "ndcg@5"),
    "implicit": (LISTS, COVERAGE),
}
BASELINES: dict[Objective, tuple[str, ...]] = {
    "rating": ("popularity", "ease", "ials", "item-knn", "user-knn", "boosted-trees"),
    "implicit": ("popularity", "ease", "ials", "item-knn", "user-knn"),
}
MOST_USERS = 1000
"""The most cold users who are measured in one seed; this many are drawn from more."""
USERS_AT_ONCE = 256
RECORD, PER_USER, RECORD_VERSION = "cell.json", "per_user.parquet", 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListsProtocol:
    """The log of a protocol, and the meaning of its rows."""

    title: str
    dataset: str
    """A name in `datasets.SOURCES`."""
    objective: Objective
    scale: tuple[float, float] | None = None


PROTOCOLS = {
    "lists-ml100k": ListsProtocol(
        title="MovieLens 100K", dataset="ml-100k", objective="rating", scale=(1, 5)
    ),
    "lists-ml1m": ListsProtocol(
        title="MovieLens 1M", dataset="ml-1m", objective="rating", scale=(1, 5)
    ),
    "lists-lastfm": ListsProtocol(
        title="Last.FM (HetRec 2011)", dataset="lastfm-hetrec", objective="implicit"
    ),
    "lists-online-retail": ListsProtocol(
        title="Online Retail", dataset="online-retail", objective="implicit"
    ),
    "lists-book-crossing": ListsProtocol(
        title="Book-Crossing (core)", dataset="book-crossing", objective="rating", scale=(1, 10)
    ),
}


def name_of(shots: int | None) -> str:
    """Return the name of a number of shots in tables of cells."""
    return "all" if shots is None else str(shots)


@dataclasses.dataclass
class Seed:
    """The tasks of a seed, built when a cell asks for them."""

    protocol: ListsProtocol
    log: "Dataset[Any]"
    seed: int

    def __post_init__(self) -> None:
        self.config = pipeline_config(seed=self.seed)

    @property
    def task_set(self) -> TaskSet:
        """The same object each time: the log keeps what it built last."""
        return self.log.task_set(self.config.tasks)

    @property
    def default(self) -> str:
        """The learner that `recmeta run` trains by default."""
        return self.config.training_for(self.protocol.objective).model.algorithm

    @property
    def rival(self) -> str:
        """The second learner, which it trains for its report."""
        return rival_of(self.config, self.protocol.objective)

    def fitted(self, learner: str) -> tuple[Predictor, Model | None]:
        """Return a trained learner, or a tuned and fitted baseline, without using the cold
        users."""
        task_set, objective = self.task_set, self.protocol.objective
        items, history, spec = task_set.items(), task_set.history(), task_set.spec
        if learner in (self.default, self.rival):
            how = self.config.training_for(objective)
            if learner != self.default:
                how = self.config.rival_for(objective) or how
            begun = at_start(how, task_set, torch.device("cpu"))
            model = fit_whole(how, begun, task_set, MemoryFolder(), lambda epoch: None).model
            over = model.on(items, task_set.statistics(), history)
            return LearnedPredictor(learner, over, history), model
        fitted = fit_baselines(
            spec,
            task_set.tasks("train"),
            task_set.tasks("dev"),
            self.seed,
            names=(learner,),
            items=items,
            history=history,
            relevant_from=self.relevant_from,
            everybody=task_set.joined().tasks("train"),
        )
        return fitted[learner], None

    @property
    def relevant_from(self) -> float:
        """The smallest value of a liked item."""
        if self.protocol.objective == "implicit":
            return -np.inf
        train = self.task_set.tasks("train")
        values = train.rows.value
        return describe(values, self.task_set.spec.value_range).relevant_from

    def cold_users(self) -> tuple[Tasks, int]:
        """Return the cold users who are measured, and the number of all cold users."""
        cold = self.task_set.tasks("test")
        if len(cold) <= MOST_USERS:
            return cold, len(cold)
        drawn = np.random.default_rng(self.seed).choice(len(cold), MOST_USERS, replace=False)
        return cold.take(np.sort(drawn)), len(cold)

    def measured(self, predictor: Predictor) -> tuple[pa.Table, dict[str, float]]:
        """Return a row per number of shots and cold user, and the coverage by number of shots."""
        cold, _ = self.cold_users()
        spec, objective = self.task_set.spec, self.protocol.objective
        of_values = ("mae", "rmse", "ndcg") if objective == "rating" else ()
        selection = MetricSelection(
            metrics=tuple(map(metric, (*of_values, "catalogue-ndcg", "coverage"))),
            ks=(5, K),
            num_negatives=0,
            relevant_from=self.relevant_from,
        )
        num_scores = len(cold) * spec.num_items * len(SHOTS)
        is_slow = predictor.name in BASELINE_FILES and BASELINE_FILES[predictor.name].slow_lists
        without_lists = [predictor.name] if is_slow and num_scores > MOST_SLOW_SCORES else []
        tables, covered = [], {}
        for shots in SHOTS:
            found = measure(
                {predictor.name: predictor},
                cold,
                spec,
                selection,
                USERS_AT_ONCE,
                np.random.default_rng(self.seed),
                shots,
                without_lists=without_lists,
            )
            per_user = found.per_user[predictor.name]
            kept = {name: per_user[name] for name in METRICS[objective] if name in per_user}
            state = pa.array([name_of(shots)] * len(cold), pa.string())
            users = cold.profile[schema.USER_ID].combine_chunks()
            tables.append(pa.table({schema.STATE: state, schema.USER_ID: users, **kept}))
            if predictor.name in found.lists:
                listed = found.lists[predictor.name].first(K)
                covered[name_of(shots)] = coverage(listed.listed_I)
        return pa.concat_tables(tables), covered


def rival_of(config: PipelineConfig, objective: Objective) -> str:
    """Return the learner that a recipe trains for its report."""
    rival = config.rival_for(objective)
    assert rival is not None, "the default recipe has one"
    return rival.model.algorithm


def version_of(learner: str, objective: Objective) -> str:
    """Return the fingerprint of the code that decides a learner's results."""
    here = ("benchmarks.accuracy.list_cells", "benchmarks.accuracy.datasets")
    if learner in BASELINE_FILES:
        return code.fingerprint(*here, BASELINE_FILES.module_of(learner))
    inside = [one.model.algorithm for one in training_of(learner, objective).members]
    return code.fingerprint(*here, *(LEARNERS.module_of(name) for name in (learner, *inside)))


def filled(seed: Seed, learner: str, folder: Folder) -> tuple[dict[str, Any], pa.Table]:
    """Return a cell's record and its users' metrics, which are read if they were computed
    before."""
    if not folder.exists(RECORD):
        seed.cold_users()  # build the tasks before the clock starts
        started = time.process_time()
        predictor, model = seed.fitted(learner)
        trained = time.process_time()
        per_user, covered = seed.measured(predictor)
        cold, num_cold = seed.cold_users()
        stream = io.BytesIO()
        pq.write_table(per_user, stream)
        folder.write_bytes(PER_USER, stream.getvalue())
        record = {
            "learner": learner,
            "seed": seed.seed,
            "coverage": covered,
            "cold_users": num_cold,
            "measured_users": len(cold),
            "training_cpu_minutes": round((trained - started) / 60, 3),
            "measuring_cpu_minutes": round((time.process_time() - trained) / 60, 3),
            "head": None if model is None else _head(model.lists),
            "code": version_of(learner, seed.protocol.objective),
        }
        folder.write_json(RECORD, record)  # written last: a cell that has it is complete
    record = json.loads(folder.read_bytes(RECORD))
    return record, pq.read_table(io.BytesIO(folder.read_bytes(PER_USER)))


def _head(lists: ListHead) -> dict[str, Any]:
    """Return the weights by which lists are ordered: those of the columns at each number of
    rows."""
    weight_KC = lists.weight_KC.double().numpy().round(4)
    return {
        "half_life_days": lists.half_life_days,
        "centre": lists.centre,
        "weights": {
            str(knot): dict(zip(lists.columns, weight_C.tolist(), strict=True))
            for knot, weight_C in zip(KNOTS, weight_KC, strict=True)
        },
    }
