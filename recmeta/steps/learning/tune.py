"""tasks ──▶ recipe: search hyperparameters and architecture, judged on the development users.

    tuning/KEY/journal.log     Optuna's storage of the study
    tuning/KEY/trials/…        checkpoints of the trial that is under way
    tuning/KEY/best.toml       the best configuration so far, for --config

The first trial of every learner is its unchanged configuration, so that on these users the result
is never worse than before. A trial that falls behind the others at the same epoch is stopped. A
study is identified by what it searches, not by how long: a second call continues it,
with the trial that was running if the first call was killed.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from recmeta.config import fingerprint, merged, parse, to_dict
from recmeta.errors import UserError
from recmeta.manifest import Manifest
from recmeta.metalearn.outer_loop.trainer import Diverged, Epoch
from recmeta.progress import Progress, silent
from recmeta.registry.runs.tuning import SearchRun
from recmeta.steps.data.build_tasks import BuildTasksOutputs
from recmeta.steps.learning.meta_train import content_source
from recmeta.steps.learning.study import (
    AS_IT_IS,
    DIVERGED,
    STATES,
    Candidate,
    EndedTrial,
    complete,
    drawn,
    ended_trials,
    enqueue,
    in_order_of,
    num_ended,
)
from recmeta.steps.parts.toml import to_toml
from recmeta.tasks.task_set import TaskSet
from recmeta.training.config import MetaTrainConfig
from recmeta.training.device import choose_device
from recmeta.training.fit import fit
from recmeta.training.search_space import nested
from recmeta.training.shared_members import SharedMembers
from recmeta.training.start import at_start
from recmeta.workspace import Folder, Workspace

if TYPE_CHECKING:
    import optuna

STEP = "tune"
RECIPE = "best.toml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How long to search, and when to stop trials."""

    trials: int = 30
    """Number of trials in total, including those of earlier calls."""
    minutes: float | None = None
    """Time limit of this call; the trial that is then running continues in the next call. If None,
    the call ends when the trials are done."""
    stop: Literal["median", "halving"] = "median"
    """Which trials are stopped early. `median`: those whose loss is above the median of the others
    at the same epoch. `halving`: at epochs 1, 3, 9, 27, … all but the best third of the trials that
    came so far (successive halving: Jamieson and Talwalkar, AISTATS 2016; asynchronous: Li et al.,
    MLSys 2020), so that many trials are tried and few are trained to the end. Trials of unchanged
    configurations are never stopped, and with `halving` no other trial is compared with them."""
    startup_trials: int = 5
    """With `median`, trials that run to their end before any is compared with the others."""
    warmup_epochs: int = 3
    """With `median`, the number of epochs before which no trial is stopped."""
    seed: int = 0
    """The seed of the search."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials is {self.trials}; it must be at least 1.")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes is {self.minutes}; it must be positive.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a study has found so far."""

    key: str
    """The key of the study."""
    run_id: str
    """MLflow's id of the study's run."""
    best: MetaTrainConfig
    dev_loss: float
    """The loss of the best trial in its best epoch: see
    `recmeta.metalearn.outer_loop.trainer.Epoch`."""
    values: dict[str, Any]
    """The values that the best trial drew; only the learner if its unchanged configuration is
    best."""
    as_it_is: dict[str, float]
    """The same loss of each learner's untouched configuration."""
    counts: dict[str, int]
    """Trials that are complete, stopped early or diverged."""
    trials: tuple[EndedTrial, ...]
    """The trials themselves, in their order."""
    recipe: str
    """Where best.toml is, from the workspace."""


class _OutOfTime(Exception):
    """The time limit has passed."""


def run(
    config: TuneConfig,
    candidates: Mapping[str, Candidate],
    workspace: Workspace,
    tasks: Manifest[BuildTasksOutputs],
    *,
    device: str = "auto",
    processes: int = 1,
    progress: Progress = silent,
) -> Tuned:
    """Search the candidates' spaces and write the best configuration; continue a study if there is
    one.

    The study's lock allows one process at a time, since a trial that runs in another process would
    be mistaken for a killed one.

    Args:
        candidates: by algorithm.
        tasks: the manifest of build-tasks. Its test users are not used.
        processes: number of processes of this machine that share each trial's training. Trials come
            one after the other, since each is drawn from the results of those before.

    Raises:
        UserError: without Optuna, without development users, for a workspace in an object store,
            for a space with unknown names, and if no trial could end in time.
    """
    optuna = _optuna()
    task_set = TaskSet(workspace / tasks.outputs.tasks)
    _check(task_set, candidates)
    torch_device = choose_device(device)
    plain = {name: to_dict(candidate) for name, candidate in candidates.items()}
    key = fingerprint(STEP, tasks.key, plain, config.seed)
    with workspace.working_on(f"{STEP}-{key}"):
        return _search(
            optuna, config, candidates, workspace, tasks, key, torch_device, processes, progress
        )


def _search(
    optuna: Any,
    config: TuneConfig,
    candidates: Mapping[str, Candidate],
    workspace: Workspace,
    tasks: Manifest[BuildTasksOutputs],
    key: str,
    torch_device: torch.device,
    processes: int,
    progress: Progress,
) -> Tuned:
    """Search, as the only one that works on the study with this key."""
    task_set = TaskSet(workspace / tasks.outputs.tasks)
    folder = workspace / "tuning" / key
    study = _study(optuna, config, folder)
    candidates = in_order_of(study, candidates)
    search = SearchRun.start_or_resume(
        workspace, key, learners=list(candidates), inputs={"tasks": tasks.key}
    )
    enqueue(optuna, study, list(candidates))
    deadline = None if config.minutes is None else time.monotonic() + 60 * config.minutes
    members = SharedMembers()
    with search:
        while (num_done := num_ended(optuna, study)) < config.trials:
            progress(STEP, num_done, config.trials)
            trial = study.ask()
            asked, values = drawn(trial, candidates)
            on_epoch = _watch(optuna, trial, search, asked, values, deadline)
            checkpoints = folder / "trials" / fingerprint(asked)
            try:
                source = content_source(asked.content_from, workspace)
                begun = at_start(
                    asked, task_set, torch_device, source=source, trained=members.of(asked)
                )
                # A trial is judged by its epochs alone: its lists would be learned for nobody.
                judged = dataclasses.replace(asked, lists="popularity")
                trained = fit(
                    judged,
                    begun,
                    task_set,
                    checkpoints,
                    on_epoch,
                    on_members=functools.partial(members.keep, asked),
                    processes=processes,
                )
                best = trained.best
            except _OutOfTime:
                break
            except optuna.TrialPruned:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            except Diverged as error:
                trial.set_user_attr(DIVERGED, str(error))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, best.dev_loss)
            ended = study.trials[trial.number]
            is_whole = ended.state is optuna.trial.TrialState.COMPLETE
            loss = ended.values[0] if is_whole else None
            search.end_trial(trial.number, ended.state.name.lower(), loss)
            _remove(checkpoints)
        progress(STEP, num_done, config.trials)
        found = _found(optuna, study, candidates, key, search.run_id)
        search.log_best(found.values, {t.number: t.values[0] for t in complete(optuna, study)})
    folder.write_bytes(RECIPE, _recipe(found).encode())
    return found


def _check(task_set: TaskSet, candidates: Mapping[str, Candidate]) -> None:
    """Refuse, before anything runs, tasks without development users and spaces with values that no
    configuration can have."""
    if not task_set.spec.num_tasks["dev"]:
        raise UserError(
            "there are no development users to judge by: raise tasks.split.dev_share "
            "and build the tasks again."
        )
    for candidate in candidates.values():
        plain = to_dict(candidate.config)
        for name, dimension in candidate.space.items():
            for value in dimension.choices or (dimension.low, dimension.high):
                parse(MetaTrainConfig, merged(plain, nested(name, value)), "train")


def _optuna() -> Any:
    """Return the module."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "recmeta tune needs Optuna, which is not installed: pip install 'recmeta[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(optuna: Any, config: TuneConfig, folder: Folder) -> Any:
    """Open the study in a folder, which need not be there yet."""
    path = folder.local_path("journal.log")
    if not folder.exists("journal.log"):
        folder.write_bytes("journal.log", b"")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    study = optuna.create_study(
        storage=storage,
        study_name="study",
        direction="minimize",
        load_if_exists=True,
        pruner=_pruner(optuna, config),
    )
    # A sampler has no memory but the study's: a study that continues draws new values, not the same
    # ones.
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    return study


def _pruner(optuna: Any, config: TuneConfig) -> Any:
    """Return what decides, after each epoch of a trial, whether it goes on."""
    if config.stop == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return optuna.pruners.MedianPruner(
        n_startup_trials=config.startup_trials, n_warmup_steps=config.warmup_epochs
    )


def _watch(
    optuna: Any,
    trial: "optuna.Trial",
    search: SearchRun,
    config: MetaTrainConfig,
    values: Mapping[str, Any],
    deadline: float | None,
) -> Callable[[Epoch], None]:
    """Return what is to be done after each epoch of a trial."""
    search.start_trial(trial.number, fingerprint(config), values)

    def on_epoch(epoch: Epoch) -> None:
        search.log_epoch(trial.number, epoch)
        trial.report(epoch.dev_loss, epoch.number)
        if AS_IT_IS not in trial.user_attrs and trial.should_prune():
            raise optuna.TrialPruned
        if deadline is not None and time.monotonic() > deadline:
            raise _OutOfTime

    return on_epoch


def _found(
    optuna: Any, study: "optuna.Study", candidates: Mapping[str, Candidate], key: str, run_id: str
) -> Tuned:
    """Return what the study has found so far.

    Raises:
        UserError: if no trial is complete.
    """
    whole, trials = complete(optuna, study), ended_trials(study, candidates)
    if not whole:
        raise UserError(
            f"none of the {len(trials)} trials of the study {key} reached a loss: run the command "
            "again, which continues the study, with more --minutes or a lower learning rate."
        )
    best = min(whole, key=lambda t: (t.values[0], t.number))
    config, values = drawn(best, candidates)
    return Tuned(
        key=key,
        run_id=run_id,
        best=config,
        dev_loss=best.values[0],
        values=values,
        as_it_is={t.user_attrs[AS_IT_IS]: t.values[0] for t in whole if AS_IT_IS in t.user_attrs},
        counts={state: sum(t.state == state for t in trials) for state in STATES},
        trials=trials,
        recipe=f"tuning/{key}/{RECIPE}",
    )


def _recipe(found: Tuned) -> str:
    """Return best.toml."""
    counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    return (
        f"# Found by recmeta tune, study {found.key}: loss {found.dev_loss:.6g} of the development "
        f"users.\n# Trials: {counts}. MLflow run {found.run_id}.\n\n"
        + to_toml({"train": to_dict(found.best)})
    )


def _remove(folder: Folder) -> None:
    if folder.names():
        folder.filesystem.delete_dir(folder.path)
