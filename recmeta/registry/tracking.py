"""MLflow: where a workspace keeps its runs, and one run per training.

A run is found again by its tag `recmeta.key`, the key of the meta-train step: a training that was
killed and goes on, or is asked for twice, is one run with each epoch logged once.
"""

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from recmeta.config import fingerprint
from recmeta.errors import UserError
from recmeta.metalearn.trainer import Epoch
from recmeta.schema import TABLES
from recmeta.workspace import Folder, Workspace

EXPERIMENT = "recmeta"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
REPORT_SUFFIXES = (".json", ".md", ".png", ".parquet")

KEY = "recmeta.key"
CONFIG_HASH = "recmeta.config_hash"
SEED = "recmeta.seed"
INPUT = "recmeta.input."
"""Before the name of each thing that the training read; the tag's value is its version."""
GIT_COMMIT = "mlflow.source.git.commit"

MAX_VALUE = 500
"""Characters of a parameter or tag; every MLflow store takes them. config.json has the whole."""
MAX_PER_BATCH = 100
"""Parameters that MLflow takes at once."""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is the caller's
}
"""What MLflow reads from the environment, partly when imported; the user's own values win."""


def tracking_uri(workspace: Workspace) -> str:
    """Return the address of the MLflow store: `MLFLOW_TRACKING_URI`, else SQLite in the workspace.

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


def store_name(workspace: Workspace) -> str:
    """Return what tells one MLflow store from another, for a step's inputs: without credentials."""
    parts = urlsplit(tracking_uri(workspace))
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return DATABASE  # the workspace may move
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def connect(workspace: Workspace) -> Any:
    """Return an `mlflow.MlflowClient` of the workspace's store, which is created if need be.

    MLflow's global addresses stay as they are. Its telemetry is off unless the environment turns it
    on.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    uri = tracking_uri(workspace)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)


def experiment_id(client: Any, workspace: Workspace) -> str:
    """Return the id of the experiment "recmeta", which is created if need be.

    Raises:
        UserError: if it was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        location = None  # a server knows where its artifacts go
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            location = Path(workspace.local_path(ARTIFACTS)).as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(EXPERIMENT)  # another process was faster
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the MLflow experiment {EXPERIMENT!r} was deleted: bring it back with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`."
        )
    return str(found.experiment_id)


class TrainingRun:
    """The MLflow run of one training."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self.run_id = run_id
        """MLflow's id of the run."""
        self._logged = {m.step for m in client.get_metric_history(run_id, "train_loss")}

    @classmethod
    def start_or_resume(
        cls,
        workspace: Workspace,
        key: str,
        *,
        config: Mapping[str, Any],
        inputs: Mapping[str, Any],
        libraries: Mapping[str, str],
        git_commit: str | None,
    ) -> "TrainingRun":
        """Return the run of the training with this key, begun now or before.

        Args:
            key: of the meta-train step.
            config: JSON-ready; flattened into parameters, whole in the artifact config.json.
            inputs: name to version; those that name a Delta table become dataset inputs.
            libraries: name to version; in the artifact environment.json.
        """
        client = connect(workspace)
        experiment = experiment_id(client, workspace)
        found = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags = _tags(key, config, inputs, git_commit)
            run = client.create_run(experiment, tags=tags, run_name=f"meta-train {key[:8]}")
            run_id = run.info.run_id
        # Again for a run that was found: it may have been killed before this was written.
        _log_params(client, run_id, config)
        client.log_dict(run_id, dict(config), "config.json")
        client.log_dict(run_id, dict(libraries), "environment.json")
        datasets = _datasets(workspace, inputs)
        if datasets:
            client.log_inputs(run_id, datasets)
        return cls(client, run_id)

    def log_epoch(self, epoch: Epoch) -> None:
        """Log an epoch's losses with the epoch's number as step, unless they are there already."""
        from mlflow.entities import Metric

        if epoch.number in self._logged:
            return
        now = _now()
        self._client.log_batch(
            self.run_id,
            metrics=[
                Metric("train_loss", epoch.train_loss, now, epoch.number),
                Metric("dev_loss", epoch.dev_loss, now, epoch.number),
            ],
        )
        self._logged.add(epoch.number)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """Say how the training ended."""
        self._client.set_terminated(self.run_id, status)


def log_evaluation(
    workspace: Workspace,
    run_id: str,
    metrics: Mapping[str, Mapping[str, float | None]],
    report_folder: Folder,
) -> None:
    """Log an evaluation to the run of the training: metrics, and the report under `evaluation/`.

    Args:
        metrics: by predictor and metric; logged as `METRIC.PREDICTOR`, such as `mae.item-mean` and
            `ndcg_at_5.item-mean`. A metric that is None or not finite is left out, and one that is
            there with the same value is not logged again.
        report_folder: its JSON, Markdown, PNG and Parquet files are copied.
    """
    from mlflow.entities import Metric

    client = connect(workspace)
    known = get_run(client, workspace, run_id).data.metrics
    now = _now()
    new = [
        Metric(name, value, now, 0)
        for name, value in _flat_metrics(metrics).items()
        if known.get(name) != value
    ]
    for start in range(0, len(new), MAX_PER_BATCH):
        client.log_batch(run_id, metrics=new[start : start + MAX_PER_BATCH])
    with tempfile.TemporaryDirectory() as copy:
        for name in report_folder.names():
            if name.endswith(REPORT_SUFFIXES):
                (Path(copy) / name).write_bytes(report_folder.read_bytes(name))
        client.log_artifacts(run_id, copy, "evaluation")


def data_versions(workspace: Workspace, run_id: str) -> dict[str, str]:
    """Return what the training of a run read: name to version."""
    tags = get_run(connect(workspace), workspace, run_id).data.tags
    return {n.removeprefix(INPUT): v for n, v in tags.items() if n.startswith(INPUT)}


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
        raise UserError(
            f"the MLflow store {store_name(workspace)} has no run {run_id}, in which the model "
            "was trained: set MLFLOW_TRACKING_URI to the store it was trained with, or train again."
        ) from error


def mlflow_name(name: str) -> str:
    """Return a metric's or parameter's name with only characters that MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name.replace("@", "_at_"))


def _flat_metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    return {
        mlflow_name(f"{metric}.{predictor}"): float(value)
        for predictor, found in metrics.items()
        for metric, value in found.items()
        if value is not None and math.isfinite(value)
    }


def _tags(
    key: str, config: Mapping[str, Any], inputs: Mapping[str, Any], git_commit: str | None
) -> dict[str, str]:
    tags = {
        KEY: key,
        CONFIG_HASH: fingerprint(dict(config)),
        "mlflow.source.name": "recmeta meta-train",
        "mlflow.source.type": "LOCAL",
    }
    tags |= {INPUT + mlflow_name(name): _short(value) for name, value in inputs.items()}
    if "seed" in config:
        tags[SEED] = str(config["seed"])
    if git_commit is not None:
        tags[GIT_COMMIT] = git_commit
    return tags


def _log_params(client: Any, run_id: str, config: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    params = [Param(mlflow_name(name), _short(value)) for name, value in _flatten(config).items()]
    for start in range(0, len(params), MAX_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + MAX_PER_BATCH])


def _flatten(config: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return nested tables as `outer.inner` names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{where}{name}.")
        else:
            flat[f"{where}{name}"] = value
    return flat


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _datasets(workspace: Workspace, inputs: Mapping[str, Any]) -> list[Any]:
    """Return a dataset input for each Delta table among the inputs; nothing of it is read."""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    datasets = []
    for table in TABLES:
        version = inputs.get(table.name)
        if not isinstance(version, int):
            continue
        uri = workspace.table_uri(table)
        dataset = MetaDataset(
            DeltaDatasetSource(path=uri, delta_table_version=version),
            name=table.name,
            digest=f"v{version}-{fingerprint(uri)[:8]}",
        )
        context = InputTag("mlflow.data.context", "training")
        datasets.append(DatasetInput(dataset._to_mlflow_entity(), [context]))
    return datasets


def _now() -> int:
    return time.time_ns() // 1_000_000
