"""The MLflow run of a training: everything that made the model, and later how good it proved to be.

    tasks.json        the configuration of build-tasks, and the key of the task set
    config.json       the configuration of meta-train
    environment.json  versions of libraries
    features.json     what the model reads
    carried_over.json the content that was carried over from another model, if any
    evaluation/       the configuration of evaluate, in config.json, and its report

With the versions of the Delta tables, which are the run's datasets, that is all that `recmeta
rebuild` needs. A run is found again by its tag `recmeta.key`, the key of the meta-train step: a
training that was killed and resumed, or requested twice, is one run with each epoch logged once.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch

from recmeta.config import fingerprint
from recmeta.errors.secrets import masked_values
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.registry.models.features import FeaturesRead
from recmeta.registry.owners import Heartbeat, connect_to_write, own, tags_of_owner
from recmeta.registry.runs import run_page
from recmeta.registry.runs.provenance import actor, uncommitted_changes
from recmeta.registry.runs.system_metrics import system_metrics
from recmeta.registry.tracking import (
    INPUT,
    KEY,
    create_run,
    end_run,
    experiment_id,
    get_run,
    log_metrics,
    log_params,
    mlflow_name,
    shortened,
)
from recmeta.schema import INTERACTIONS_ID, TABLES
from recmeta.workspace import DIGESTS, Folder, Workspace

TASKS_FILE = "tasks.json"
CONFIG_FILE = "config.json"
ENVIRONMENT_FILE = "environment.json"
FEATURES_FILE = "features.json"
CARRIED_OVER_FILE = "carried_over.json"
EVALUATION = "evaluation"
EVALUATION_FILE = "evaluation.json"
REPORT_SUFFIXES = (".json", ".md", ".png", ".parquet")

CONFIG_HASH = "recmeta.config_hash"
SEED = "recmeta.seed"
DEVICE = "recmeta.device"
THREADS = "recmeta.threads"
"""The number of PyTorch's threads on the CPU. Another number may sum floats in another order."""


class TrainingRun:
    """The MLflow run of one training.

    As a context manager it logs how busy the machine is, and ends as FINISHED or FAILED.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self._client = client
        self._monitor = contextlib.ExitStack()
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
        tasks_config: Mapping[str, Any],
        features: FeaturesRead,
        device: str,
        libraries: Mapping[str, str],
        git_commit: str | None,
    ) -> Self:
        """Return the run of the training with this key, begun now or before.

        Args:
            key: the key of the meta-train step.
            config: JSON-ready; flattened into parameters, whole in the artifact config.json.
            inputs: name to version; those that name a Delta table become dataset inputs.
            tasks_config: the configuration of the build-tasks step, in the artifact tasks.json.
            features: the features that the model reads, in the artifact features.json.
            device: the type of the device that trains.
            libraries: name to version; in the artifact environment.json.
        """
        client = connect_to_write(workspace)
        experiment = experiment_id(client)
        found = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
            own(client, workspace, run_id)
        else:
            tags = _tags(config, inputs, features, device, git_commit) | {KEY: key}
            tags |= tags_of_owner(workspace)
            learner = config.get("model", {}).get("algorithm", "meta-train")
            run_id = create_run(client, experiment, f"{learner} {key[:8]}", "meta-train", tags)
        # Again for a run that was found: it may have been killed before this was written.
        log_params(client, run_id, config)
        client.log_dict(run_id, masked_values(config), CONFIG_FILE)
        client.log_dict(
            run_id,
            masked_values({"config": tasks_config, "key": inputs.get("tasks")}),
            TASKS_FILE,
        )
        client.log_dict(run_id, dict(libraries), ENVIRONMENT_FILE)
        client.log_dict(run_id, dataclasses.asdict(features), FEATURES_FILE)
        datasets = _datasets(inputs)
        if datasets:
            client.log_inputs(run_id, datasets)
        run_page.refresh(client, run_id)
        return cls(client, run_id)

    def __enter__(self) -> Self:
        heartbeat = self._monitor.enter_context(Heartbeat(self._client))
        heartbeat.add(self.run_id)
        self._monitor.enter_context(system_metrics(self._client, self.run_id))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._monitor.close()
        end_run(self._client, self.run_id, error)

    def log_epoch(self, epoch: Epoch) -> None:
        """Log an epoch's losses with the epoch's number as step, unless they were logged
        already."""
        if epoch.number in self._logged:
            return
        losses = {"train_loss": epoch.train_loss, "dev_loss": epoch.dev_loss}
        log_metrics(self._client, self.run_id, losses, epoch.number)
        self._logged.add(epoch.number)

    def log_carried_over(self, report: Mapping[str, str]) -> None:
        """Log what was carried over from another model's content, by field, and what was not."""
        self._client.log_dict(self.run_id, dict(report), CARRIED_OVER_FILE)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """Record how the training ended."""
        self._client.set_terminated(self.run_id, status)


def log_evaluation(
    workspace: Workspace,
    run_id: str,
    metrics: Mapping[str, Mapping[str, float | None]],
    report_folder: Folder,
    *,
    config: Mapping[str, Any],
    candidate: str,
    primary_metric: str,
) -> None:
    """Log an evaluation to the run of the training: metrics, and the report under `evaluation/`.

    Args:
        metrics: by predictor and metric; see `flat_metrics`. A metric that was logged with the same
            value is not logged again.
        report_folder: its JSON, Markdown, PNG and Parquet files are copied.
        config: the configuration of the evaluate step, in the artifact evaluation/config.json.
        candidate: the predictor that is the run's own model.
        primary_metric: the metric that is shown first.
    """
    client = connect_to_write(workspace)
    known = get_run(client, workspace, run_id).data.metrics
    flat = flat_metrics(metrics)
    value = metrics[candidate].get(primary_metric)
    if (
        value is not None
    ):  # under a name that all learners share, which is a column of the list of runs
        flat[mlflow_name(primary_metric)] = value
    log_metrics(client, run_id, {n: value for n, value in flat.items() if known.get(n) != value})
    with workspace.temporary_folder() as copy:
        for name in report_folder.names():
            if name.endswith(REPORT_SUFFIXES) and name != DIGESTS:
                (Path(copy) / name).write_bytes(report_folder.read_bytes(name))
        client.log_artifacts(run_id, copy, EVALUATION)
    client.log_dict(run_id, masked_values(config), f"{EVALUATION}/{CONFIG_FILE}")
    client.set_tag(run_id, run_page.CANDIDATE, candidate)
    client.set_tag(run_id, run_page.PRIMARY_METRIC, mlflow_name(primary_metric))
    run_page.refresh(client, run_id)


def flat_metrics(metrics: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """Return metrics by `METRIC.PREDICTOR`, such as `mae.item-mean` and `ndcg_at_5.item-mean`.

    Metrics that are None or not finite are left out.
    """
    return {
        mlflow_name(f"{metric}.{predictor}"): float(value)
        for predictor, found in metrics.items()
        for metric, value in found.items()
        if value is not None and math.isfinite(value)
    }


def _tags(
    config: Mapping[str, Any],
    inputs: Mapping[str, Any],
    features: FeaturesRead,
    device: str,
    git_commit: str | None,
) -> dict[str, str]:
    tags = {
        CONFIG_HASH: fingerprint(dict(config)),
        DEVICE: device,
        THREADS: str(torch.get_num_threads()),
        run_page.STARTED_BY: actor(),
        run_page.FEATURE_SERVICE: features.service,
        run_page.FEATURES_DIGEST: features.digest,
        run_page.FEATURES: shortened(", ".join((*features.features, *features.with_model))),
    }
    tags |= {INPUT + mlflow_name(name): shortened(value) for name, value in inputs.items()}
    if "seed" in config:
        tags[SEED] = str(config["seed"])
    if git_commit is not None:
        tags[run_page.GIT_COMMIT] = git_commit
        changed = uncommitted_changes()
        if changed is not None:
            tags[run_page.GIT_DIRTY] = str(changed).lower()
    return tags


def _datasets(inputs: Mapping[str, Any]) -> list[Any]:
    """Return a dataset input for each Delta table among the inputs, named relative to the
    workspace, without reading the tables."""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    datasets = []
    for table in TABLES:
        version = inputs.get(table.name)
        if not isinstance(version, int):
            continue
        dataset = MetaDataset(
            DeltaDatasetSource(path=table.path, delta_table_version=version),
            name=table.name,
            digest=f"v{version}-{fingerprint(table.path, inputs.get(INTERACTIONS_ID))[:8]}",
        )
        context = InputTag("mlflow.data.context", "training")
        datasets.append(DatasetInput(dataset._to_mlflow_entity(), [context]))
    return datasets
