"""Where a deployment's settings come from. Read when a task runs, never when a DAG is parsed.

The Airflow Variable `recmeta_NAME` wins, then the environment variable `RECMETA_NAME`, then the
default.

    workspace   where the tables, models and reports are       workspace
    mapping     the log's mapping, a .toml or .json file        (none; build_tasks needs it)
    recipe      a named configuration                           default
    config      a .toml file whose values replace the recipe's  (none)
    device      cpu, cuda or auto                               auto
    feature_store   folder of a Feast repository                (none)
    done_file   what is written last into a day's folder        (none)
    wait        seconds to wait for another that writes         3600
"""

import os
from typing import TYPE_CHECKING

from recmeta.errors.secrets import secrets_in

if TYPE_CHECKING:
    from recmeta.logs.mapping import LogMapping
    from recmeta.manifest import Manifest, Outputs, Step
    from recmeta.recipes import PipelineConfig
    from recmeta.workspace import Workspace


WAIT = "3600"
"""Seconds that a task waits for another command that writes to the workspace."""


def setting(name: str) -> str | None:
    """Return a setting, or None where it is not set anywhere.

    Airflow masks the secrets in it, and in the address of MLflow, in the log of the task.
    """
    from airflow.sdk import Variable
    from airflow.sdk.log import mask_secret

    value: str | None = Variable.get(f"recmeta_{name}", default=None)
    found = value or os.environ.get(f"RECMETA_{name.upper()}") or None
    for text in filter(None, (found, os.environ.get("MLFLOW_TRACKING_URI"))):
        for secret in secrets_in(text):
            mask_secret(secret)
    return found


def workspace() -> "Workspace":
    """Return the workspace."""
    from recmeta.workspace import Workspace

    return Workspace(setting("workspace") or "workspace", wait=_wait()).check_format()


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
        raise UserError(
            "no mapping is set: let the Airflow Variable recmeta_mapping or the environment "
            "variable RECMETA_MAPPING name the .toml or .json file that says what the log's "
            "columns mean."
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


def device() -> str:
    """Return the device to compute on."""
    return setting("device") or "auto"


def feature_store() -> str | None:
    """Return the Feast repository whose online store holds features, if there is one."""
    return setting("feature_store")


def done_file() -> str | None:
    """Return the name of what is written last into a day's folder, such as `_SUCCESS`; None where
    nothing is asked for."""
    return setting("done_file")


def manifest(step: "Step[Outputs]", key: str) -> "Manifest[Outputs]":
    """Return the manifest of a finished step, whose key an XCom or an asset event carried.

    Raises:
        UserError: where it is gone, or what the step left is.
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
