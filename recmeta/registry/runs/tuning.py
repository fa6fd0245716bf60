"""The trials of tuning, as nested runs.

Baselines are tuned while a model is trained: one run per method is nested in the training's. Its
parameters are the chosen ones, its metric is their loss, and its table has all trials. (A run per
candidate would hide a training behind a hundred others.) In `recmeta tune`, where there is only
tuning, the study has a run of the same form, and nested in it one per trial, with the losses of its
epochs.
"""

import itertools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from recmeta.evaluation.baseline import Trial
from recmeta.metalearn.outer_loop.trainer import Epoch
from recmeta.registry.owners import Heartbeat, connect_to_write, own, tags_of_owner
from recmeta.registry.tracking import (
    INPUT,
    PARENT,
    connect,
    create_run,
    end_run,
    experiment_id,
    log_metrics,
    log_params,
    log_series,
    mlflow_name,
    shortened,
)
from recmeta.workspace import Workspace

TUNING = "recmeta.tuning"
LOSS = "dev_loss"
BEST = "best_dev_loss"
BY_CANDIDATE = "_by_candidate"
STATE = "recmeta.tuning.state"
CHOSEN = "recmeta.tuning.best."
CANDIDATES_FILE = "candidates.json"


def log_tuning(workspace: Workspace, run_id: str, step: str, trials: Sequence[Trial]) -> None:
    """Log the trials of each method to a run nested in the training's. Existing runs are kept.

    Args:
        run_id: the run of the training.
        step: the step that tuned. Each step has nested runs of its own.
        trials: the trials, grouped by method, in the order in which they were made.
    """
    if not trials:
        return
    client = connect(workspace)
    experiment = experiment_id(client)
    owner = tags_of_owner(workspace)
    children = client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'")
    known = {c.data.tags[TUNING]: c.info for c in children if TUNING in c.data.tags}
    for method, of_method in itertools.groupby(trials, key=lambda trial: trial.method):
        name = f"{step}: tune {method}"
        if name in known:
            if known[name].status == "FINISHED":
                continue
            client.delete_run(known[name].run_id)  # the process was killed before it was complete
        child = create_run(client, experiment, name, step, {PARENT: run_id, TUNING: name, **owner})
        _log(client, child, list(of_method))
        client.set_terminated(child)


def _log(client: Any, run_id: str, trials: Sequence[Trial]) -> None:
    best = min(trials, key=lambda trial: trial.loss)
    log_params(client, run_id, {**best.config, "num_candidates": len(trials)})
    log_series(client, run_id, f"{best.measure}{BY_CANDIDATE}", (t.loss for t in trials))
    log_metrics(client, run_id, {best.measure: best.loss})
    columns: dict[str, list[float]] = {n: [t.config[n] for t in trials] for n in best.config}
    _log_table(client, run_id, columns | {best.measure: [t.loss for t in trials]})


def _log_table(client: Any, run_id: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Log all trials in the form of MLflow's tables, replacing an existing table."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    client.log_dict(run_id, {"columns": list(columns), "data": rows}, CANDIDATES_FILE)


class SearchRun:
    """The run of a study, and of its trials. As a context manager it ends as FINISHED or FAILED."""

    def __init__(self, client: Any, workspace: Workspace, experiment: str, run_id: str) -> None:
        self._client = client
        self._workspace = workspace
        self._heartbeat = Heartbeat(client)
        self._experiment = experiment
        self.run_id = run_id
        """MLflow's id of the study's run."""
        self._trials: dict[int, str] = {}
        self._logged: dict[int, set[int]] = {}

    @classmethod
    def start_or_resume(
        cls, workspace: Workspace, key: str, *, learners: Sequence[str], inputs: Mapping[str, str]
    ) -> Self:
        """Return the run of the study with this key, begun now or before.

        Args:
            learners: the learners that are tuned.
            inputs: the versions of the inputs, by name.
        """
        client = connect_to_write(workspace)
        experiment = experiment_id(client)
        found = client.search_runs([experiment], f"tags.`{TUNING}` = '{key}'", max_results=1)
        if found:
            run_id = found[0].info.run_id
            own(client, workspace, run_id)
        else:
            tags = {TUNING: key, **{INPUT + name: version for name, version in inputs.items()}}
            tags |= tags_of_owner(workspace)
            name = f"tune {', '.join(learners)}"
            run_id = create_run(client, experiment, name, "tune", tags)
        return cls(client, workspace, experiment, run_id)

    def __enter__(self) -> Self:
        self._heartbeat.add(self.run_id)
        self._heartbeat.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._heartbeat.__exit__(kind, error, where)
        end_run(self._client, self.run_id, error)

    def start_trial(self, number: int, name: str, values: Mapping[str, Any]) -> None:
        """Begin the run of a trial, or continue it.

        Args:
            name: the name of the trial, which is the same if it continues after it was killed.
            values: the values that the trial drew.
        """
        tag = f"{self.run_id}/{name}"
        found = self._client.search_runs([self._experiment], f"tags.`{TUNING}` = '{tag}'")
        if found:
            run_id = found[0].info.run_id
            own(self._client, self._workspace, run_id)
            self._client.update_run(run_id, name=f"trial {number}")
        else:
            tags = {PARENT: self.run_id, TUNING: tag, **tags_of_owner(self._workspace)}
            run_id = create_run(self._client, self._experiment, f"trial {number}", "tune", tags)
            log_params(self._client, run_id, values)
        history = self._client.get_metric_history(run_id, LOSS)
        self._trials[number], self._logged[number] = run_id, {m.step for m in history}
        self._heartbeat.add(run_id)

    def log_epoch(self, number: int, epoch: Epoch) -> None:
        """Log the losses of a trial's epoch, unless they were logged already."""
        if epoch.number in self._logged[number]:
            return
        losses = {"train_loss": epoch.train_loss, LOSS: epoch.dev_loss}
        log_metrics(self._client, self._trials[number], losses, epoch.number)
        self._logged[number].add(epoch.number)

    def end_trial(self, number: int, state: str, loss: float | None) -> None:
        """Record how a trial ended.

        Args:
            state: complete or pruned.
            loss: the loss of its best epoch, if it is complete.
        """
        self._client.set_tag(self._trials[number], STATE, state)
        if loss is not None:
            log_metrics(self._client, self._trials[number], {BEST: loss})
            log_metrics(self._client, self.run_id, {f"{LOSS}{BY_CANDIDATE}": loss}, number)
        self._heartbeat.remove(self._trials[number])
        self._client.set_terminated(self._trials[number])

    def log_best(self, values: Mapping[str, Any], losses: Mapping[int, float]) -> None:
        """Log the values of the best trial, and the losses of all trials by number, to the study's
        run.

        They are logged as tags, since a study that continues may find something better, and
        parameters cannot change.
        """
        for name, value in values.items():
            self._client.set_tag(self.run_id, f"{CHOSEN}{mlflow_name(name)}", shortened(value))
        log_metrics(self._client, self.run_id, {BEST: min(losses.values())}, len(losses))
        columns: dict[str, list[float]] = {"trial": list(losses), LOSS: list(losses.values())}
        _log_table(self._client, self.run_id, columns)
