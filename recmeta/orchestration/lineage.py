"""The inputs and outputs of a task as OpenLineage datasets, if Airflow's provider of it is
installed.

    pip install 'recmeta[lineage]'

A dataset is a place in the workspace, named as OpenLineage names files (`file` and the path, or the
bucket and the key); its version is that of the table, or the key of what was made. The registered
model is a dataset of the MLflow store. Logs are named by their own places.
"""

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from recmeta.errors.secrets import masked
from recmeta.manifest import Manifest

logger = logging.getLogger(__name__)
PROVIDER = "airflow.providers.openlineage"
FOLDERS = {
    "tasks": "tasks",
    "model": "models",
    "champion": "models",
    "evaluation": "reports",
    "states": "states",
}
"""Where the workspace keeps what a manifest's input of that name is the key of."""


def emit(done: Manifest[Any], read: Sequence[str] = ()) -> None:
    """Emit the inputs and outputs of a finished step as a part of the run of its task; emit nothing
    without the provider, or if it is switched off.

    Args:
        read: places of logs, which a manifest knows by their content alone.
    """
    if not _is_installed():
        return
    from airflow.providers.openlineage.api import emit_dataset_lineage, is_openlineage_active

    if is_openlineage_active():
        emit_dataset_lineage(inputs=_datasets(inputs(done, read)), outputs=_datasets(outputs(done)))


def inputs(done: Manifest[Any], read: Sequence[str] = ()) -> Iterator[tuple[str, str | None]]:
    """Yield the address and the version of each input of a step; an address is a place in the
    workspace, or a URL.

    Args:
        read: as of `emit`.
    """
    from recmeta.schema import TABLES

    tables = {table.name: table for table in TABLES}
    for name, version in done.inputs.items():
        if name in tables and version is not None:
            yield tables[name].path, str(version)
        elif name in FOLDERS and version is not None:
            yield f"{FOLDERS[name]}/{version}", str(version)
    for place in read:
        yield _url(place), done.inputs.get("source")


def outputs(done: Manifest[Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the address and the version of each output of a step."""
    from recmeta.registry import tracking

    for address, digest in (done.digests or {}).items():
        version = digest.get("version") if isinstance(digest, dict) else done.key
        yield address, str(version)
    model = getattr(done.outputs, "model_version", None)
    if done.step == "register" and model is not None:
        yield f"mlflow:/{tracking.model_name()}", model


def named(address: str, workspace: str, store: str) -> tuple[str, str]:
    """Return the namespace and the name of a dataset.

    Args:
        address: as `inputs` and `outputs` yield.
        workspace: its location.
        store: of MLflow, without credentials.
    """
    if address.startswith("mlflow:/"):
        return store, f"models{address.removeprefix('mlflow:')}"
    url = address if "://" in address else f"{_url(workspace)}/{address}"
    parts = urlsplit(url)
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")


def _datasets(found: Iterator[tuple[str, str | None]]) -> list[Any]:
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    from recmeta.orchestration.settings import workspace
    from recmeta.registry import tracking

    place = workspace()
    store = masked(tracking.store_name(place)).partition("#")[0]
    datasets = []
    for address, version in found:
        namespace, name = named(address, place.location, store)
        facets = {} if version is None else {"version": DatasetVersionDatasetFacet(version)}
        datasets.append(Dataset(namespace=namespace, name=name, facets=facets))
    return datasets


def _url(place: str) -> str:
    return place if "://" in place else f"file://{place}"


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(PROVIDER) is not None
    except ModuleNotFoundError:  # without any provider
        return False
