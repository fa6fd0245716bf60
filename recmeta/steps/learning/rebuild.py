"""a run's record ──▶ the same model once more, and whether its metrics are the recorded ones.

The workspace does not change: its tables are read at the recorded versions, and no manifest, model,
version or alias is written. MLflow gets a run, nested in the repeated one.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import torch
from deltalake.exceptions import DeltaError

from recmeta import schema
from recmeta.config import parse
from recmeta.errors import UserError
from recmeta.evaluation.judgement import CHAMPION, JudgementConfig, judge
from recmeta.logs import tables
from recmeta.metalearn.model import Model
from recmeta.plugins import only_trusted
from recmeta.progress import Progress, silent
from recmeta.records.provenance import git_commit, library_versions
from recmeta.registry.models import versions
from recmeta.registry.runs import record
from recmeta.registry.runs.record import Record
from recmeta.registry.runs.training_run import flat_metrics
from recmeta.steps.data import build_tasks
from recmeta.steps.learning import evaluate, meta_train
from recmeta.steps.parts.task_building import BuildTasksConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.device import choose_device
from recmeta.training.fit import fit_whole
from recmeta.training.start import at_start
from recmeta.workspace import Folder, Workspace

STEP = "rebuild"
TABLES = (schema.INTERACTIONS, schema.USERS, schema.ITEMS)
MODEL = "model"
"""Where the model is in the folder of a rebuild."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RebuiltMetric:
    """One metric, as recorded and as reproduced."""

    recorded: float | None
    """None if the record has no such metric."""
    rebuilt: float | None
    """None if the metric was not reproduced."""
    equal: bool
    """Whether the two differ by no more than the tolerance."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rebuild:
    """The result of training a model again."""

    run_id: str
    """The run that was repeated."""
    rebuild_run_id: str
    """The nested run in which the repetition is logged."""
    metrics: dict[str, RebuiltMetric]
    """The comparison of each metric, by its name."""
    tolerance: float
    """The largest difference that counts as equal; 0 means the same bits."""
    warnings: tuple[str, ...]
    """Sentences on what differs from the record: libraries, code, device."""
    folder: str | None
    """Where tables, tasks and model were kept, if they were."""

    @property
    def reproduced(self) -> bool:
        """Whether every metric is equal."""
        return all(metric.equal for metric in self.metrics.values())


def run(
    workspace: Workspace,
    run_id: str,
    *,
    tolerance: float = 0.0,
    device: str | None = None,
    into: str | None = None,
    progress: Progress = silent,
) -> Rebuild:
    """Build the tasks of a run again, train and evaluate again, and compare.

    The metrics of the champion of that time are left out: it is another run's model.

    Args:
        run_id: MLflow's id of a training.
        tolerance: the largest difference, in units of the metric, that counts as equal.
        device: `cpu`, `cuda` or `auto`; if None, the device of the record.
        into: a folder that does not exist yet, for the tables, the tasks and the model; if None, a
            temporary one.

    Raises:
        UserError: if the run does not hold all that is needed, names a module that is not
            trusted, or a version of a table is gone.
    """
    if not tolerance >= 0:
        raise UserError(f"tolerance is {tolerance}; it must be 0 or more.")
    found = record.read_record(workspace, run_id)
    torch_device = choose_device(device or found.device)
    with workspace.working_on(f"rebuild-{run_id}"), _folder(into, workspace) as scratch:
        for table, version in _versions(found, workspace).items():
            _copy(workspace, table, version, scratch)
        metrics = _repeat(found, workspace, scratch, torch_device, progress)
    recorded = {n: v for n, v in found.metrics.items() if not n.endswith(f".{CHAMPION}")}
    compared = {
        name: _compare(recorded.get(name), metrics.get(name), tolerance)
        for name in sorted({*recorded, *metrics})
    }
    reproduced = all(metric.equal for metric in compared.values())
    return Rebuild(
        run_id=run_id,
        rebuild_run_id=record.log_rebuild(
            workspace, run_id, metrics, reproduced=reproduced, tolerance=tolerance
        ),
        metrics=compared,
        tolerance=tolerance,
        warnings=tuple(_changes(found, torch_device.type)),
        folder=into,
    )


@only_trusted()
def _repeat(
    found: Record,
    workspace: Workspace,
    scratch: Workspace,
    device: torch.device,
    progress: Progress,
) -> dict[str, float]:
    """Return the losses of the last epoch and the metrics of the model and of the baselines."""
    tasks = build_tasks.run(parse(BuildTasksConfig, found.tasks_config), scratch, progress=progress)
    task_set = TaskSet(scratch / tasks.outputs.tasks)
    config = parse(MetaTrainConfig, found.train_config)
    earlier = None
    if found.started_from is not None:
        version = versions.get(workspace, found.started_from)
        earlier = Model.load(versions.model_folder(workspace, version))
    source = meta_train.content_source(config.content_from, workspace)
    begun = at_start(config, task_set, device, earlier, source=source)
    folder = scratch / MODEL
    done = fit_whole(
        config,
        begun,
        task_set,
        folder,
        lambda epoch: progress(meta_train.STEP, epoch.number, config.training.epochs),
    )
    progress(meta_train.STEP, config.training.epochs, config.training.epochs)
    done.model.save(folder)
    judged = parse(JudgementConfig, found.evaluate_config)
    measured = judge(
        judged.evaluation,
        task_set,
        Model.load(folder, device),
        None,
        baseline_names=judged.baselines,
        progress=progress,
    )
    progress(evaluate.STEP, 4, 4)
    last = done.history[-1] if done.history else done.best
    losses = {"train_loss": last.train_loss, "dev_loss": last.dev_loss}
    return losses | flat_metrics(measured.metrics)


@contextlib.contextmanager
def _folder(into: str | None, workspace: Workspace) -> Iterator[Workspace]:
    """Yield the workspace of the rebuild, which is gone afterwards unless it was asked for."""
    if into is not None:
        if Folder.at(into).names():
            raise UserError(f"{into} is not empty: name a folder that does not exist yet.")
        yield Workspace(into)
        return
    with workspace.temporary_folder() as temporary:
        yield Workspace(Path(temporary))


def _versions(found: Record, workspace: Workspace) -> dict[schema.Table, int]:
    """Return the versions of the workspace's tables that the record names.

    Raises:
        UserError: if the record does not name them, or they are other tables.
    """
    missing = [table.name for table in TABLES if table.name not in found.tables]
    if missing:
        raise UserError(f"the run {found.run_id} records no version of {', '.join(missing)}.")
    uri = workspace.table_uri(schema.INTERACTIONS)
    table_id = None
    if tables.is_there(workspace, schema.INTERACTIONS):
        table_id = str(tables.opened(workspace, schema.INTERACTIONS).metadata().id)
    if table_id is None or found.table_id not in (None, table_id):
        raise UserError(
            f"the tables that the run {found.run_id} was trained on are gone: {uri} is not the "
            "table of that time. Restore it, or name the --workspace that has it."
        )
    return {table: found.tables[table.name] for table in TABLES}


def _copy(workspace: Workspace, table: schema.Table, version: int, scratch: Workspace) -> None:
    """Copy one version of a table.

    Raises:
        UserError: if the version, or a file of it, has been deleted.
    """
    uri = workspace.table_uri(table)
    gone = (
        f"version {version} of the table {uri} is gone, so the model cannot be built "
        "again: {}. Maintenance keeps the versions that registered models were trained on; a "
        "vacuum by other means does not."
    )
    try:
        delta = tables.opened(workspace, table, version)
    except DeltaError as error:
        raise UserError(gone.format(error)) from error
    files = workspace / table.path
    paths = pa.table(delta.get_add_actions()).column("path").to_pylist()
    missing = [path for path in paths if not files.exists(unquote(path))]
    if missing:
        raise UserError(
            gone.format(f"{len(missing)} of its files, such as {missing[0]}, do not exist")
        )
    pl.scan_delta(delta).sink_delta(scratch.table_uri(table))


def _compare(recorded: float | None, rebuilt: float | None, tolerance: float) -> RebuiltMetric:
    if recorded is None or rebuilt is None:
        equal = False
    else:  # without development users their loss is NaN, then and now
        both_undefined = math.isnan(recorded) and math.isnan(rebuilt)
        equal = both_undefined or abs(recorded - rebuilt) <= tolerance
    return RebuiltMetric(recorded=recorded, rebuilt=rebuilt, equal=equal)


def _changes(found: Record, device: str) -> Iterator[str]:
    """Yield what differs from when the model was trained."""
    now = library_versions()
    differing = [
        f"{name} {_version(found.libraries, name)} then, {_version(now, name)} now"
        for name in sorted({*found.libraries, *now})
        if found.libraries.get(name) != now.get(name)
    ]
    if differing:
        yield f"Other versions of libraries: {'; '.join(differing)}."
    commit = git_commit()
    if commit != found.git_commit:
        yield f"Other code: commit {found.git_commit or 'unknown'} then, {commit or 'unknown'} now."
    if found.git_dirty:
        yield "The code then had changes that were not committed."
    if device != found.device:
        yield f"Another device: {found.device} then, {device} now."
    if torch.get_num_threads() != found.threads:
        yield (
            f"Another number of threads: {found.threads} then, {torch.get_num_threads()} now; "
            "OMP_NUM_THREADS sets it."
        )


def _version(libraries: Mapping[str, Any], name: str) -> str:
    return str(libraries.get(name, "not installed"))
