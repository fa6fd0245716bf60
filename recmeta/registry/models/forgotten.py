"""The removal of forgotten users from MLflow, which then only knows which models were trained on
them."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recmeta import schema
from recmeta.registry.models.versions import Version, versions
from recmeta.registry.owners import connect_to_write
from recmeta.registry.runs.training_run import EVALUATION
from recmeta.registry.tracking import has_store, model_name, tracking_uri
from recmeta.workspace import Workspace

RETRAIN: Final = "recmeta.retrain"
"""Tag of a version that should be replaced by a newly trained one; its value says why."""


def mark_for_retraining(workspace: Workspace, model_keys: Collection[str], why: str) -> list[str]:
    """Tag the versions that came out of these trainings.

    Returns:
        Their numbers.
    """
    client = connect_to_write(workspace)
    marked = [v.version for v in versions(workspace) if v.model_key in model_keys]
    for number in marked:
        client.set_model_version_tag(model_name(), number, RETRAIN, why)
    return marked


def why_retrain(version: Version) -> str | None:
    """Return why a version should be trained again; None if it need not be."""
    return version.tags.get(RETRAIN)


def erase_from_artifacts(workspace: Workspace, user_ids: Collection[str]) -> int:
    """Take users out of the Parquet files of all evaluations of this model. A file that cannot be
    read is emptied, since it is unknown who is in it.

    Returns:
        The number of rewritten files.
    """
    if not has_store(workspace):
        return 0
    from mlflow.artifacts import download_artifacts

    client = connect_to_write(workspace)
    changed = 0
    for run_id in _runs(client):
        for artifact in _files(client, run_id, EVALUATION):
            if not artifact.path.endswith(".parquet"):
                continue
            with workspace.temporary_folder() as folder:
                path = download_artifacts(
                    run_id=run_id,
                    artifact_path=artifact.path,
                    dst_path=folder,
                    tracking_uri=tracking_uri(workspace),
                )
                try:
                    kept = without_users(pq.read_table(path), user_ids)
                except pa.ArrowException:  # written in part, by a command that was killed
                    kept = pa.table({schema.USER_ID: pa.array([], pa.string())})
                if kept is not None:
                    copy = Path(folder) / "kept" / Path(artifact.path).name
                    copy.parent.mkdir()
                    pq.write_table(kept, copy)
                    client.log_artifact(run_id, str(copy), artifact.path.rpartition("/")[0])
                    changed += 1
    return changed


def without_users(rows: pa.Table, user_ids: Collection[str]) -> pa.Table | None:
    """Return the rows of other users; None if there is no row of these users."""
    if schema.USER_ID not in rows.column_names:
        return None
    column = rows[schema.USER_ID].cast(pa.string())
    erased = pc.is_in(column, value_set=pa.array(sorted(user_ids), pa.string()))
    return rows.filter(pc.invert(erased)) if pc.any(erased).as_py() else None


def _files(client: Any, run_id: str, folder: str) -> Iterator[Any]:
    """Yield the artifacts of a run that are in a folder, or in one of its folders."""
    for artifact in client.list_artifacts(run_id, folder):
        if artifact.is_dir:
            yield from _files(client, run_id, artifact.path)
        else:
            yield artifact


def _runs(client: Any) -> Iterator[str]:
    """Yield the runs of this model's experiment, including deleted ones, whose files remain. In
    another experiment of a shared server, the same id is another user."""
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name(model_name())
    token = None
    while experiment is not None:
        page = client.search_runs(
            [experiment.experiment_id], run_view_type=ViewType.ALL, page_token=token
        )
        yield from (run.info.run_id for run in page)
        token = page.token
        if not token:
            return
