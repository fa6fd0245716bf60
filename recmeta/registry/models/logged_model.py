"""MLflow's logged model of a training: packaged once, and found again by the training's key."""

import posixpath
from pathlib import Path
from typing import Any

from recmeta.errors import Broken
from recmeta.registry.models.files import MODEL_FILES
from recmeta.registry.tracking import experiment_id, get_run, model_name
from recmeta.workspace import Folder, Workspace, sealed

MODEL_KEY = "recmeta.model_key"


def logged_model(
    client: Any, workspace: Workspace, run_id: str, folder: Folder, model_key: str
) -> Any:
    """Return the model that is logged to the training's run, logging it first if needed."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    experiment = experiment_id(client)
    run = get_run(client, workspace, run_id)
    ready = None
    for found in client.search_logged_models([experiment], f"tags.`{MODEL_KEY}` = '{model_key}'"):
        if found.status == LoggedModelStatus.READY:
            ready = found
        else:
            client.delete_logged_model(
                found.model_id
            )  # the process was killed before it was complete
    if ready is None:
        ready = _log_model(client, workspace, experiment, run, folder, model_key)
    elif artifact_losses(ready.artifact_location, client.tracking_uri):
        _log_files(client, workspace, ready, run, folder)
    if ready.model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(ready.model_id, step=0)])
    return ready


def _log_model(
    client: Any, workspace: Workspace, experiment: str, run: Any, folder: Folder, model_key: str
) -> Any:
    """Log a model as `mlflow.pyfunc.log_model` does, without MLflow's global state."""
    from mlflow.entities import LoggedModelStatus

    logged = client.create_logged_model(
        experiment,
        name=model_name(),
        source_run_id=run.info.run_id,
        tags={MODEL_KEY: model_key},
        params=run.data.params,
        model_type="recommender",
    )
    _log_files(client, workspace, logged, run, folder)
    return client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def _log_files(client: Any, workspace: Workspace, logged: Any, run: Any, folder: Folder) -> None:
    """Package a model and make that the files of a logged one."""
    from mlflow.models import Model as MLflowModel

    from recmeta.registry.models.packaging import package

    about = MLflowModel(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        run_id=run.info.run_id,
        model_id=logged.model_id,
    )
    with workspace.temporary_folder() as temporary:
        target = Path(temporary) / "packaged"
        package(folder, target, about)
        client.log_model_artifacts(logged.model_id, str(target))


def artifact_losses(location: str, tracking_uri: str, *, full: bool = False) -> list[str]:
    """Return sentences on which files of a logged model are missing or differ from what was
    written.

    If they are on this machine and have digests, they are compared with these; otherwise only their
    existence is checked.

    Args:
        location: MLflow's address of the model's artifacts.
        tracking_uri: address of the store.
        full: read every file.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from recmeta.registry.served_model import ARTIFACT

    inside = f"artifacts/{ARTIFACT}"
    repository = get_artifact_repository(location, tracking_uri)
    present = {posixpath.basename(file.path) for file in repository.list_artifacts(inside)}
    missing = [name for name in MODEL_FILES if name not in present]
    if missing:
        return [f"{location}/{inside} lacks {', '.join(missing)}"]
    if not isinstance(repository, LocalArtifactRepository):
        return []
    try:
        return sealed(Folder.at(repository.artifact_dir) / inside).losses(full=full)
    except Broken as error:
        return [str(error)]
