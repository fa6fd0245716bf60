"""The location of MLflow's artifacts: beside its SQLite database, wherever that is.

What is logged to the store of a workspace has addresses such as `mlflow-artifacts:/RUN/artifacts`,
which name no folder. To MLflow they mean the artifacts of the tracking server. If the store is a
SQLite file without a server, they mean the folder `mlartifacts` beside that file, so that a
workspace can be moved and copied. An MLflow server of the same store serves the same artifacts when
it is started with `--artifacts-destination WORKSPACE/mlartifacts`.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SCHEME = "mlflow-artifacts"
ROOT = f"{SCHEME}:/"
"""Address of the folder of all artifacts of a store."""
FOLDER = "mlartifacts"
"""Its name, which is also what `mlflow server` takes in the folder that it is started in."""


def database_path(uri: str) -> Path | None:
    """Return the SQLite file of a store's address; None for a server or another database."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" else Path(os.path.abspath(name))


def repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """Return MLflow's artifact repository for an address with our scheme.

    The entry point `mlflow.artifact_repository` in pyproject.toml makes MLflow call it, so that
    `mlflow.pyfunc.load_model("models:/recmeta@champion")` works wherever recmeta is installed.

    Raises:
        MlflowException: for an address that leads out of the folder of the artifacts.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.tracking import get_tracking_uri
    from mlflow.utils.uri import validate_path_is_safe

    store = tracking_uri or get_tracking_uri()
    database = database_path(store)
    address = urlsplit(artifact_uri)
    if database is None or address.netloc:
        return MlflowArtifactsRepository(artifact_uri, store, registry_uri)
    inside = address.path.strip("/")
    folder = database.with_name(FOLDER) / (validate_path_is_safe(inside) if inside else "")
    return LocalArtifactRepository(folder.as_uri(), store, registry_uri)


def keep_apart(client: Any) -> None:
    """Have a client forget what MLflow remembers, by runs' ids alone, of another store's artifacts.

    A copy of a workspace has the same runs, and a process that logs to one of them must not write
    to the other.
    """
    from mlflow.tracking._tracking_service import utils

    tracking = client._tracking_client
    find = tracking._get_artifact_repo

    def find_in_its_store(resource_id: str, **kind: Any) -> Any:
        remembered = utils._artifact_repos_cache.get(resource_id)
        if remembered is not None and remembered.tracking_uri != tracking.tracking_uri:
            utils._artifact_repos_cache.pop(resource_id, None)
        return find(resource_id, **kind)

    tracking._get_artifact_repo = find_in_its_store


def register() -> None:
    """Let MLflow in this process use `repository`, as the entry point does.

    An installation of recmeta that is older than the entry point does not have it.
    """
    from mlflow.store.artifact import artifact_repository_registry

    artifact_repository_registry._artifact_repository_registry.register(SCHEME, repository)
