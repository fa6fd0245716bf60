"""tasks ──▶ model: meta-train across users, with a checkpoint and a line in MLflow per epoch."""

import dataclasses
from typing import Any, Literal

import torch

from recmeta.config import to_dict
from recmeta.errors import UserError
from recmeta.evaluation.baselines.fit import tune_biases, tune_matrix_factorisation
from recmeta.manifest import Manifest, git_commit, library_versions, run_once
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model, ModelConfig
from recmeta.metalearn.pretraining import start_from_factors
from recmeta.metalearn.trainer import Epoch, TrainingConfig, train
from recmeta.progress import Progress, silent
from recmeta.registry.tracking import TrainingRun
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import Tasks, TaskSet, TaskSetSpec
from recmeta.workspace import Workspace

STEP = "meta-train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTrainConfig:
    """Everything that decides which model comes out of a task set."""

    model: ModelConfig = ModelConfig()
    """Features, network and learner."""
    episodes: EpisodeConfig = EpisodeConfig()
    """How users are presented."""
    training: TrainingConfig = TrainingConfig()
    """The outer loop."""
    start: Literal["factors", "random"] = "factors"
    """`factors`: the items' embeddings start from a matrix factorisation, whose size and
    regularisation the development users choose. Ratings only."""
    seed: int = 0
    """Of initial parameters and the order of users."""


def run(
    config: MetaTrainConfig,
    workspace: Workspace,
    tasks: Manifest,
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> Manifest:
    """Meta-train a model on a task set; a run that was killed goes on after its last epoch.

    Args:
        tasks: the manifest of build-tasks.
        device: `cpu`, `cuda` or `auto`. It is no part of the step's key.

    Raises:
        UserError: when training diverges, the device is not there or a feature is unknown.
    """
    torch_device = choose_device(device)

    def work(key: str) -> tuple[dict[str, Any], dict[str, int]]:
        folder = workspace / "models" / key
        task_set = TaskSet(workspace / tasks.outputs["tasks"])
        model = Model.untrained(config.model, task_set, torch_device)
        train_tasks, dev_tasks = task_set.tasks("train"), task_set.tasks("dev")
        model.params = _start(config, model, task_set.spec, train_tasks, dev_tasks)
        tracked = TrainingRun.start_or_resume(
            workspace,
            key,
            config=to_dict(config),
            inputs={**tasks.inputs, "tasks": tasks.key},
            libraries=library_versions(),
            git_commit=git_commit(),
        )

        def on_epoch(epoch: Epoch) -> None:
            tracked.log_epoch(epoch)
            progress(STEP, epoch.number, config.training.epochs)

        try:
            history = train(
                model,
                train_tasks,
                dev_tasks,
                episodes=config.episodes,
                config=config.training,
                seed=config.seed,
                checkpoint=folder,
                on_epoch=on_epoch,
            )
        except BaseException:
            tracked.finish("FAILED")
            raise
        progress(STEP, config.training.epochs, config.training.epochs)
        model.save(folder)
        folder.write_json("history.json", [dataclasses.asdict(e) for e in history])
        tracked.finish("FINISHED")
        best = min(history, key=lambda e: e.dev_loss) if len(dev_tasks) else history[-1]
        outputs = {
            "model": f"models/{key}",
            "run_id": tracked.run_id,
            "device": torch_device.type,
            "best_epoch": best.number,
            "dev_loss": best.dev_loss,
        }
        num_parameters = sum(p.numel() for p in model.params.values())
        return outputs, {"epochs": len(history), "parameters": num_parameters}

    return run_once(workspace, STEP, config=to_dict(config), inputs={"tasks": tasks.key}, work=work)


def _start(
    config: MetaTrainConfig, model: Model, spec: TaskSetSpec, train_tasks: Tasks, dev_tasks: Tasks
) -> Params:
    """Return the parameters that meta-training begins with, on the CPU."""
    params = model.learner.init_params(torch.Generator().manual_seed(config.seed))
    if config.start == "random" or spec.objective != "rating" or len(train_tasks) == 0:
        return params
    biases = tune_biases(spec, train_tasks, dev_tasks)
    found = tune_matrix_factorisation(spec, train_tasks, dev_tasks, biases.config, config.seed)
    return start_from_factors(model, params, found.item_IC[:, 0], found.item_IC[:, 1:])


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one.

    Raises:
        UserError: for an unknown name, or `cuda` where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {name!r}; it must be one of cpu, cuda, auto.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device is 'cuda', and PyTorch finds no CUDA GPU here. Use --device cpu, or install a "
            "PyTorch build with CUDA (`recmeta doctor` tells which build is installed)."
        )
    use_cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")
