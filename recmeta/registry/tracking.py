"""MLflow, where a workspace keeps its runs: how they are found and written to.

The client always gets the store's address, so that MLflow's global state stays the caller's.
"""

import json
import os
import re
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from recmeta.errors import UserError
from recmeta.errors.secrets import MASK, masked, masked_values
from recmeta.registry import artifacts
from recmeta.registry.database import create_database, is_there
from recmeta.registry.old_locations import make_relative
from recmeta.workspace import Workspace

NAME = "RECMETA_MODEL_NAME"
DEFAULT_NAME = "recmeta"
DATABASE = "mlflow.db"

KEY = "recmeta.key"
INPUT = "recmeta.input."
"""The prefix of the tag for each input of a training, whose value is the input's version."""
PARENT = "mlflow.parentRunId"
KIND = "mlflow.experimentKind"
MODEL_TRAINING = "custom_model_development"
"""The value of an experiment's tag with which MLflow's page opens with runs and metrics rather than
traces and judges of language models."""

MAX_VALUE = 500
"""The most characters of a parameter or tag, which every MLflow store accepts. config.json has the
whole value."""
MAX_PER_BATCH = 100
"""The most parameters, and the most metrics, that are sent at once; MLflow accepts no more
parameters."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is the caller's
    "MLFLOW_TRACE_SAMPLING_RATIO": "0",  # traces serve to debug chains of calls
}
"""What MLflow reads from the environment, partly when imported; the user's own values take
precedence."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""Environment variables for the patience with a silent server: three requests of 20 seconds
each."""
GIVEN_UP_SECONDS = 180.0
"""The number of seconds after which a command has given up on a silent server. It may send one more
request, to report the failure."""


def tracking_uri(workspace: Workspace) -> str:
    """Return the address of the MLflow store: `MLFLOW_TRACKING_URI`, otherwise SQLite in the
    workspace.

    Raises:
        UserError: for a workspace in an object store, which cannot hold a SQLite file.
    """
    chosen = os.environ.get("MLFLOW_TRACKING_URI")
    if chosen:
        return chosen
    if not workspace.is_local:
        raise UserError(
            f"the workspace {workspace.location} is in an object store, where MLflow's default "
            "SQLite file cannot be: set MLFLOW_TRACKING_URI to the address of an MLflow server."
        )
    return f"sqlite:///{workspace.local_path(DATABASE)}"


def server_command(workspace: Workspace) -> str:
    """Return the command that serves the MLflow page of a store that is a database."""
    uri = tracking_uri(workspace)
    database = artifacts.database_path(uri)
    beside = (
        "" if database is None else f" --artifacts-destination {database.parent}/{artifacts.FOLDER}"
    )
    return f"mlflow server --backend-store-uri {uri}{beside}"


def model_name() -> str:
    """Return the name of the registered model and of the experiment of its trainings.

    That is `RECMETA_MODEL_NAME`, otherwise "recmeta". Workspaces that share an MLflow server, but
    not a champion, need names of their own.

    Raises:
        UserError: for a name that MLflow does not take.
    """
    name = os.environ.get(NAME) or DEFAULT_NAME
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"{NAME} is {name!r}; use letters, digits, and the characters _ and -")
    return name


def store_name(workspace: Workspace) -> str:
    """Return the identity of an MLflow store, without credentials, for a step's inputs."""
    name = model_name()
    model = "" if name == DEFAULT_NAME else f"#{name}"
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return f"{DATABASE}{model}"  # the workspace may move
    return masked(tracking_uri(workspace)).replace(f"{MASK}@", "") + model


def has_store(workspace: Workspace) -> bool:
    """Return whether the workspace's MLflow store has been made; a server's store is assumed to
    exist.

    Nothing is imported and nothing is requested, so that a missing store is reported at once.
    """
    uri = tracking_uri(workspace)
    return is_there(uri) or is_there(os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def connect(workspace: Workspace) -> Any:
    """Return an `mlflow.MlflowClient` of the workspace's store, which is created if needed.

    MLflow's global addresses stay as they are. Its telemetry is off unless the environment turns it
    on.
    """
    for name, value in (QUIET | PATIENCE).items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # in a notebook
        from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    create_database(uri, workspace)
    artifacts.register()
    database = artifacts.database_path(uri)
    if database is not None:
        make_relative(database)
    client = MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)
    artifacts.keep_apart(client)
    return client


def experiment_id(client: Any) -> str:
    """Return the id of the experiment with the model's name, which is created if needed.

    Raises:
        UserError: if it was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(model_name())
    if found is None:
        location = None  # a server decides where its artifacts go
        if artifacts.database_path(client.tracking_uri) is not None:
            location = artifacts.ROOT
        tags = {KIND: MODEL_TRAINING}
        try:
            return str(client.create_experiment(model_name(), location, tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(model_name())  # another process was faster
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {model_name()!r} was deleted: bring it back with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`."
        )
    if KIND not in found.tags:  # of an earlier version
        client.set_experiment_tag(found.experiment_id, KIND, MODEL_TRAINING)
    return str(found.experiment_id)


def data_versions(workspace: Workspace, run_id: str) -> dict[str, str]:
    """Return the inputs of a run's training: name to version."""
    tags = run_tags(workspace, run_id)
    return {n.removeprefix(INPUT): v for n, v in tags.items() if n.startswith(INPUT)}


def run_tags(workspace: Workspace, run_id: str) -> dict[str, str]:
    """Return the tags of a run. Raises UserError if the store does not have it."""
    return dict(get_run(connect(workspace), workspace, run_id).data.tags)


def get_run(client: Any, workspace: Workspace, run_id: str) -> Any:
    """Return a run.

    Raises:
        UserError: if the store does not have it.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise no_run(workspace, run_id) from error


def no_run(workspace: Workspace, run_id: str) -> UserError:
    """Return the error for a run that the store does not have."""
    return UserError(
        f"the MLflow store {store_name(workspace)} has no run {run_id}, in which the model was "
        "trained: set MLFLOW_TRACKING_URI to the store it was trained with, or train again, with "
        "`recmeta run --redo meta-train`."
    )


def create_run(
    client: Any, experiment: str, name: str, source: str, tags: Mapping[str, str]
) -> str:
    """Create a run as described by MLflow's own context providers: who made it, and from where.

    Args:
        source: the command that the run belongs to.
        tags: take precedence over those of the providers.

    Returns:
        The id of the run.
    """
    from mlflow.tracking.context.git_context import GitRunContext
    from mlflow.tracking.context.registry import resolve_tags

    own = {"mlflow.source.name": f"recmeta {source}", "mlflow.source.type": "LOCAL", **tags}
    # Not MLflow's commit: that is the one of the folder that the script lies in.
    resolved = resolve_tags(own, ignore=[GitRunContext])
    run = client.create_run(experiment, tags=masked_values(resolved), run_name=name)
    return str(run.info.run_id)


def end_run(client: Any, run_id: str, error: BaseException | None) -> None:
    """Record how a run ended: FINISHED, or FAILED if there was an error.

    If the store itself failed, it is not asked again, since that may take a minute; the next
    command that writes to it ends the run (`recmeta.registry.owners`).
    """
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        client.set_terminated(run_id, "FINISHED" if error is None else "FAILED")


def log_params(client: Any, run_id: str, config: Mapping[str, Any]) -> None:
    """Log a configuration as parameters, nested tables as `outer.inner` names."""
    from mlflow.entities import Param

    params = [Param(mlflow_name(name), shortened(v)) for name, v in _flatten(config).items()]
    for start in range(0, len(params), MAX_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + MAX_PER_BATCH])


def log_metrics(client: Any, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log metrics of one step."""
    _log_values(client, run_id, ((name, value, step) for name, value in metrics.items()))


def log_series(client: Any, run_id: str, name: str, values: Iterable[float]) -> None:
    """Log a metric of consecutive steps, the first of which is 0."""
    _log_values(client, run_id, ((name, value, step) for step, value in enumerate(values)))


def _log_values(client: Any, run_id: str, values: Iterable[tuple[str, float, int]]) -> None:
    """Log metrics with their steps."""
    from mlflow.entities import Metric

    now = time.time_ns() // 1_000_000
    found = [Metric(name, value, now, step) for name, value, step in values]
    for start in range(0, len(found), MAX_PER_BATCH):
        client.log_batch(run_id, metrics=found[start : start + MAX_PER_BATCH])


def mlflow_name(name: str) -> str:
    """Return a metric's or parameter's name with only characters that MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name.replace("@", "_at_"))


def shortened(value: Any) -> str:
    """Return a value as text that every MLflow store takes, without secrets."""
    text = masked(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _flatten(config: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return nested tables as `outer.inner` names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{where}{name}.")
        else:
            flat[f"{where}{name}"] = value
    return flat
