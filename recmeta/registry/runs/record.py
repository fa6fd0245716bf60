"""The record of a training's run, read back: everything that is needed to train the model again."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recmeta.errors import UserError
from recmeta.registry.owners import connect_to_write, tags_of_owner
from recmeta.registry.runs import run_page
from recmeta.registry.runs.training_run import (
    CONFIG_FILE,
    DEVICE,
    ENVIRONMENT_FILE,
    EVALUATION,
    EVALUATION_FILE,
    TASKS_FILE,
    THREADS,
    flat_metrics,
)
from recmeta.registry.tracking import (
    INPUT,
    KEY,
    PARENT,
    connect,
    create_run,
    get_run,
    log_metrics,
    store_name,
)
from recmeta.schema import INTERACTIONS_ID
from recmeta.workspace import Workspace

REBUILD_OF = "recmeta.rebuild_of"
REPRODUCED = "recmeta.reproduced"
TOLERANCE = "recmeta.tolerance"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The record of one training and of its evaluation."""

    run_id: str
    tables: Mapping[str, int]
    """Name to version of the Delta tables that were read."""
    table_id: str | None
    """Delta's own id of the interactions table, which distinguishes it from another in its
    place."""
    tasks_config: Mapping[str, Any]
    """The configuration of build-tasks."""
    train_config: Mapping[str, Any]
    """The configuration of meta-train."""
    evaluate_config: Mapping[str, Any]
    """The configuration of evaluate."""
    started_from: str | None
    """The version of the model from which training continued, if any."""
    metrics: Mapping[str, float]
    """`METRIC.PREDICTOR` to value, and the losses of the last epoch."""
    libraries: Mapping[str, str]
    """Name to version."""
    git_commit: str | None
    git_dirty: bool
    """Whether the checkout had uncommitted changes."""
    device: str
    """Type of the device that trained."""
    threads: int
    """Threads of PyTorch on the CPU."""


def read_record(workspace: Workspace, run_id: str) -> Record:
    """Return the record of a training's run.

    Raises:
        UserError: if the store does not have the run, or the run does not hold all that is needed.
    """
    client = connect(workspace)
    run = get_run(client, workspace, run_id)
    tags = run.data.tags
    if KEY not in tags:
        parent = tags.get(PARENT)
        hint = f" It is nested in the run {parent}." if parent else ""
        raise UserError(
            f"the run {run_id} in {store_name(workspace)} is not one of `recmeta meta-train`: give "
            f"the id of a run with the tag {KEY}.{hint}"
        )
    if run_page.PRIMARY_METRIC not in tags:
        raise UserError(
            f"the run {run_id} has no evaluation, so there is nothing to compare with: run "
            "`recmeta evaluate` first."
        )
    evaluation = _read(client, workspace, run_id, f"{EVALUATION}/{EVALUATION_FILE}")
    rival = evaluation.get("rival")  # another run's model
    measured = {name: m for name, m in evaluation["metrics"].items() if name != rival}
    return Record(
        run_id=run_id,
        tables=_tables(run),
        table_id=tags.get(INPUT + INTERACTIONS_ID),
        tasks_config=_read(client, workspace, run_id, TASKS_FILE)["config"],
        train_config=_read(client, workspace, run_id, CONFIG_FILE),
        evaluate_config=_read(client, workspace, run_id, f"{EVALUATION}/{CONFIG_FILE}"),
        started_from=tags.get(f"{INPUT}champion"),
        metrics=_losses(run.data.metrics) | flat_metrics(measured),
        libraries=_read(client, workspace, run_id, ENVIRONMENT_FILE),
        git_commit=tags.get(run_page.GIT_COMMIT),
        git_dirty=tags.get(run_page.GIT_DIRTY) == "true",
        device=tags[DEVICE],
        threads=int(tags[THREADS]),
    )


def log_rebuild(
    workspace: Workspace,
    run_id: str,
    metrics: Mapping[str, float],
    *,
    reproduced: bool,
    tolerance: float,
) -> str:
    """Log a rebuild as a run nested in the one that it repeats, which does not change.

    Args:
        metrics: rebuilt; under the names of the record, so that MLflow compares the two.

    Returns:
        The id of the nested run.
    """
    client = connect_to_write(workspace)
    experiment = get_run(client, workspace, run_id).info.experiment_id
    tags = {
        PARENT: run_id,
        REBUILD_OF: run_id,
        REPRODUCED: str(reproduced).lower(),
        TOLERANCE: str(tolerance),
        **tags_of_owner(workspace),
    }
    rebuild = create_run(client, experiment, f"rebuild {run_id[:8]}", "rebuild", tags)
    log_metrics(client, rebuild, metrics)
    client.set_terminated(rebuild)
    return rebuild


def _tables(run: Any) -> dict[str, int]:
    """Return the run's datasets; the tags have the versions, of which MLflow leaves out a 0."""
    names = (found.dataset.name for found in run.inputs.dataset_inputs)
    return {name: int(run.data.tags[INPUT + name]) for name in names}


def _losses(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the losses of the last epoch."""
    return {name: metrics[name] for name in ("train_loss", "dev_loss") if name in metrics}


def _read(client: Any, workspace: Workspace, run_id: str, name: str) -> Any:
    """Return the value of a JSON artifact.

    Raises:
        UserError: if the run does not have it.
    """
    folder = name.rpartition("/")[0]
    if name not in {a.path for a in client.list_artifacts(run_id, folder or None)}:
        raise UserError(
            f"the run {run_id} has no artifact {name}: it was deleted, or recorded by a version of "
            "recmeta that did not write it. Train again; that run can be rebuilt."
        )
    with workspace.temporary_folder() as temporary:
        return json.loads(Path(client.download_artifacts(run_id, name, temporary)).read_text())
