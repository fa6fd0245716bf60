"""The settings of a deployment, which are read when a task runs, never when a DAG is parsed.

The Airflow Variable `recmeta_NAME` takes precedence, then the environment variable `RECMETA_NAME`,
then the default. For a workspace with a name (`recmeta.orchestration.names`),
`recmeta_WORKSPACE_NAME` and `RECMETA_WORKSPACE_NAME` come before both; for `workspace`, `mapping`
and `model_name`, only these two count.

    workspace   where the tables, models and reports are       workspace
    mapping     the log's mapping, a .toml or .json file        (none; build_tasks needs it)
    recipe      a named configuration                           default
    config      a .toml file whose values replace the recipe's  (none)
    device      cpu, cuda or auto                               auto
    feature_store   folder of a Feast repository                (none)
    done_file   what is written last into a day's folder        (none)
    wait        seconds to wait for another that writes         3600
    model_name  the registered model and its experiment         recmeta, or recmeta-WORKSPACE
    notifier    who is notified of failures, refusals, delays    (none)
"""

import os
from typing import TYPE_CHECKING

from recmeta.errors.secrets import secrets_in
from recmeta.orchestration.names import workspace_of

if TYPE_CHECKING:
    from recmeta.logs.mapping import LogMapping
    from recmeta.logs.settling.budget import IngestConfig
    from recmeta.manifest import Manifest
    from recmeta.recipes import PipelineConfig
    from recmeta.records.step_definition import Outputs, Step
    from recmeta.workspace import Workspace


WAIT = "3600"
"""Seconds that a task waits for another command that writes to the workspace."""


OWN = ("workspace", "mapping", "model_name")
"""Settings that a workspace with a name does not share with others."""


def setting(name: str, dag_id: str | None = None) -> str | None:
    """Return a setting, or None if it is not set anywhere.

    Airflow masks the secrets in it, and in the address of MLflow, in the log of the task.

    Args:
        dag_id: of the DAG whose workspace it is about; if None, the DAG whose task runs now.
    """
    from airflow.sdk import Variable
    from airflow.sdk.log import mask_secret

    workspace = workspace_of(dag_id or _running_dag())
    names = [] if workspace is None else [f"{workspace}_{name}"]
    if workspace is None or name not in OWN:
        names.append(name)
    found = None
    for full in names:
        value: str | None = Variable.get(f"recmeta_{full}", default=None)
        found = found or value or os.environ.get(f"RECMETA_{full.upper()}") or None
    for text in filter(None, (found, os.environ.get("MLFLOW_TRACKING_URI"))):
        for secret in secrets_in(text):
            mask_secret(secret)
    return found


def _running_dag() -> str:
    """Return the id of the DAG whose task runs now; empty outside of a task."""
    from airflow.sdk import get_current_context

    try:
        return str(get_current_context()["dag"].dag_id)
    except RuntimeError:
        return ""


def workspace(dag_id: str | None = None) -> "Workspace":
    """Return the workspace; the registered model's name becomes that of its setting `model_name`.

    Args:
        dag_id: as of `setting`.
    """
    from recmeta.errors import UserError
    from recmeta.registry.tracking import NAME
    from recmeta.workspace import Workspace

    own = workspace_of(dag_id or _running_dag())
    location = setting("workspace", dag_id)
    if location is None and own is not None:
        raise UserError(
            f"it is not set where the workspace {own!r} is: let the Airflow Variable "
            f"recmeta_{own}_workspace or the environment variable RECMETA_{own.upper()}_WORKSPACE "
            "name its folder or its object-store URL."
        )
    if own is not None:  # an environment variable of this task's process alone
        os.environ[NAME] = setting("model_name", dag_id) or f"recmeta-{own}"
    return Workspace(location or "workspace", wait=_wait()).check_format()


def _wait() -> float:
    from recmeta.errors import UserError

    text = setting("wait") or WAIT
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"the setting wait is {text!r}; it must be a number of seconds.")
    return seconds


def mapping() -> "LogMapping":
    """Return the mapping of the log. Raises UserError where none is set."""
    from recmeta.errors import UserError
    from recmeta.logs.mapping import load_mapping

    path = setting("mapping")
    if path is None:
        own = workspace_of(_running_dag())
        name = "mapping" if own is None else f"{own}_mapping"
        raise UserError(
            f"no mapping is set: let the Airflow Variable recmeta_{name} or the environment "
            f"variable RECMETA_{name.upper()} name the .toml or .json file that says what the "
            "log's columns mean."
        )
    return load_mapping(path)


def config() -> "PipelineConfig":
    """Return the configuration of the steps."""
    from pathlib import Path

    from recmeta.recipes.configuration import pipeline_config

    file = setting("config")
    return pipeline_config(
        setting("recipe") or "default", path=None if file is None else Path(file)
    )


def ingest_config() -> "IngestConfig":
    """Return how logs are ingested: the table `[ingest]` of the configuration, read without
    importing the code that trains models."""
    from pathlib import Path

    from recmeta.config import parse, read_toml
    from recmeta.logs.settling.budget import IngestConfig

    file = setting("config")
    values = {} if file is None else read_toml(Path(file)).get("ingest", {})
    return parse(IngestConfig, values, "ingest")


def device() -> str:
    """Return the device to compute on."""
    return setting("device") or "auto"


def feature_store() -> str | None:
    """Return the Feast repository whose online store holds features, if there is one."""
    return setting("feature_store")


def done_file() -> str | None:
    """Return the name of the file that is written last into a day's folder, such as `_SUCCESS`;
    None if no such file is required."""
    return setting("done_file")


def manifest(step: "Step[Outputs]", key: str) -> "Manifest[Outputs]":
    """Return the manifest of a finished step, whose key an XCom or an asset event carried.

    Raises:
        UserError: if it is gone, or the step's outputs are.
    """
    from recmeta.errors import UserError
    from recmeta.manifest import whole

    found = whole(workspace(), step, key)
    if found is None:
        raise UserError(
            f"{step} {key} is not in the workspace any more, or what it left is not whole: run it "
            "again."
        )
    return found
