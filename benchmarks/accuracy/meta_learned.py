"""A meta-learner of the library as a competitor: a recipe, trained on the problem's warm users."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.accuracy.problem import Development, Problem, statistics_of
from recmeta import schema
from recmeta.config import to_dict
from recmeta.evaluation.baseline_parts.rows import training_rows
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.tasks.item_files import HistoryPiece, write_history, write_items, write_statistics
from recmeta.tasks.task_set import (
    Ragged,
    Split,
    Tasks,
    TaskSet,
    TaskSetSpec,
    write_shard,
    write_spec,
)
from recmeta.training.config import MetaTrainConfig
from recmeta.training.device import choose_device
from recmeta.training.fit import fit as fit_model
from recmeta.training.fit import refit as refit_model
from recmeta.training.start import at_start
from recmeta.workspace import Folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTrained:
    """A trained meta-learner and the record of its training."""

    predictor: LearnedPredictor
    config: dict[str, Any]
    epochs: int
    """Epochs trained."""
    best_epoch: int
    """The epoch whose parameters were kept."""
    dev_loss: float
    """The loss of that epoch on the development judges."""


def fit(
    name: str, config: MetaTrainConfig, problem: Problem, folder: Folder, seed: int
) -> MetaTrained:
    """Meta-train by a recipe. A run that was killed continues after its last epoch.

    The judges stop the training early; they are not trained on, unless the recipe says so, and then
    it begins again with all warm rows.

    Args:
        folder: keeps the task set and the checkpoint.
    """
    config = dataclasses.replace(config, seed=seed)
    development = judged_on(problem)
    task_set = write_task_set(problem, development, folder / "tasks")
    begun = at_start(config, task_set, choose_device("cpu"))
    model = begun.model
    trained = fit_model(config, begun, task_set, folder, lambda _: None)
    if config.refit:
        nobody = development.judges.take(np.zeros(0, np.int64))
        whole = Development(train=problem.train, judges=nobody)
        everybody = write_task_set(problem, whole, folder / "everybody")
        model = refit_model(
            config, begun, trained, task_set, folder, lambda _: None, everybody=everybody
        )
    return MetaTrained(
        predictor=LearnedPredictor(name, model),
        config=to_dict(config),
        epochs=len(trained.history),
        best_epoch=trained.best.number,
        dev_loss=trained.best.dev_loss,
    )


def judged_on(problem: Problem) -> Development:
    """Return the development data that stop training early: those of the first state, whose items
    are warm."""
    return next(iter(problem.development.values()))


def write_task_set(problem: Problem, development: Development, folder: Folder) -> TaskSet:
    """Write training users and judges as a task set and return it, opened; it has no test users."""
    splits: dict[Split, Tasks] = {
        "train": development.train,
        "dev": development.judges,
        "test": development.judges.take(np.zeros(0, np.int64)),
    }
    for split, tasks in splits.items():
        write_shard(folder, split, 0, _table(tasks))
    write_items(folder, problem.items)
    num_items = problem.num_items
    write_statistics(folder, statistics_of(development.train, num_items))
    num_files = write_history(folder, [HistoryPiece(training_rows(development.train).item)])
    write_spec(
        folder,
        TaskSetSpec(
            objective=problem.objective,
            value_range=problem.value_range,
            num_items=num_items,
            num_tasks={split: len(tasks) for split, tasks in splits.items()},
            num_shards=dict.fromkeys(splits, 1),
            num_interactions=sum(
                len(side.item) for tasks in splits.values() for side in (tasks.support, tasks.query)
            ),
            temporal=False,
            num_history_files=num_files,
        ),
    )
    return TaskSet(folder)


def _table(tasks: Tasks) -> pa.Table:
    def lists(side: Ragged, values: Any) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(side.offsets.astype("int32")), pa.array(values))

    columns: dict[str, pa.Array] = {
        schema.CUT_TIME: pa.array(tasks.cut_time),
        schema.SNAPSHOT: pa.array(tasks.snapshot),
        schema.STATE: pa.array(tasks.state.tolist(), pa.string()),
        schema.SUPPORT_ITEM: lists(tasks.support, tasks.support.item),
        schema.SUPPORT_VALUE: lists(tasks.support, tasks.support.value),
        schema.SUPPORT_COUNTED: lists(tasks.support, tasks.support.counted),
        schema.QUERY_ITEM: lists(tasks.query, tasks.query.item),
        schema.QUERY_VALUE: lists(tasks.query, tasks.query.value),
        schema.QUERY_COUNTED: lists(tasks.query, tasks.query.counted),
    }
    for name in tasks.profile.column_names:
        columns[name] = tasks.profile[name].combine_chunks()
    return pa.table(columns)
