"""Meta-training in many processes, started by torchrun, with the same result as in one.

The input of a training is written into a folder of its own, from which every rank reads it. The
first rank writes a checkpoint there after each epoch; the process that started the training copies
it to its own checkpoints, and reports the epoch. If a rank ends, torchrun ends the others and
starts all of them again, and they continue from the newest checkpoint, with the same result.

    model/                     as `Model.save` writes it, and items.arrow, statistics.arrow of all
                               snapshots beside it in catalogue/
    train.arrow, dev.arrow     the tasks
    tensors.safetensors        rows that are held fixed, left-out factors
    job.json                   everything else
    run/checkpoint/            as `trainer` writes it
    error.json                 why training was given up, if it was
    log                        the output of torchrun and the ranks
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch

from recmeta.config import parse, to_dict
from recmeta.errors import UserError
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop import trainer
from recmeta.metalearn.outer_loop.checkpoint import CHECKPOINT, keep, newest
from recmeta.metalearn.outer_loop.ranks import Ranks, local_device
from recmeta.metalearn.outer_loop.trainer import Diverged, Epoch, TrainingConfig
from recmeta.metalearn.registry import LEARNERS
from recmeta.plugins import TRUSTED
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.item_files import read_items, read_statistics, write_items, write_statistics
from recmeta.tasks.task_set import Tasks, read_tasks, write_tasks_for_processes
from recmeta.workspace import Folder, resumed, sealing

MOST_RESTARTS = 3
"""The number of times that torchrun restarts the ranks after one of them ended."""
POLL_SECONDS = 0.2
"""The time between two checks whether an epoch has finished."""
GRACE_SECONDS = 5.0
"""The time that the ranks have to end after a request to terminate."""
MOST_SHOWN = 2_000
"""The most characters of the log that an error shows."""
HELD, LEFT_OUT = "held.", "left_out"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The part of a training's input that is neither tensors nor tables."""

    episodes: EpisodeConfig
    config: TrainingConfig
    seed: int
    in_order: bool
    device: str
    module: str
    """The module of the learner."""
    names: tuple[str, ...]
    """The names of the parameters, in their order. A file returns them in any order, and sums over
    them would then round differently on each rank."""


def train(
    model: Model,
    train_tasks: Tasks,
    dev_tasks: Tasks,
    *,
    processes: int,
    episodes: EpisodeConfig,
    config: TrainingConfig,
    seed: int,
    in_order: bool = False,
    checkpoint: Folder | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    held: Mapping[str, torch.Tensor] | None = None,
    left_out_KIF: torch.Tensor | None = None,
) -> list[Epoch]:
    """Meta-train a model in place, as `trainer.train` does, in this number of processes of this
    machine. A single process is this one.

    Raises:
        Diverged: when a loss or a gradient is not finite.
        UserError: when there is no task to train on, the device cannot compute as configured, or
            processes end again and again.
    """
    if processes < 1:
        raise UserError(f"processes is {processes}; it must be at least 1.")
    if processes == 1 or len(train_tasks) == 0:
        return trainer.train(
            model,
            train_tasks,
            dev_tasks,
            episodes=episodes,
            config=config,
            seed=seed,
            in_order=in_order,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            held=held,
            left_out_KIF=left_out_KIF,
        )
    run = trainer.TrainingState(model, config, seed, held or {}, stops_early=len(dev_tasks) > 0)
    kept = None if checkpoint is None else resumed(checkpoint / CHECKPOINT)
    content = None if kept is None else newest(kept)
    if content is not None:
        run.restore(content)
    num_reported = 0
    with tempfile.TemporaryDirectory(prefix="recmeta-ranks-") as place:
        folder = Folder.at(place)

        def tell() -> None:
            nonlocal num_reported
            for past in run.history[num_reported:]:
                if on_epoch:
                    on_epoch(past)
            num_reported = len(run.history)

        tell()
        if not run.finished:
            job = Job(
                episodes=episodes,
                config=config,
                seed=seed,
                in_order=in_order,
                device=model.device.type,
                module=LEARNERS.module_of(model.algorithm),
                names=tuple(model.params),
            )
            write(folder, job, model, {"train": train_tasks, "dev": dev_tasks}, held, left_out_KIF)
            if content is not None:
                keep(resumed(folder / "run" / CHECKPOINT), len(run.history), content)
            for content in _checkpoints(folder, processes, len(run.history)):
                run.restore(content)
                if kept is not None:
                    keep(kept, len(run.history), content)
                tell()
    model.params = run.best
    return run.history


def _checkpoints(folder: Folder, processes: int, last: int) -> Iterator[bytes]:
    """Start the ranks, and yield the checkpoints of epochs after `last` until the ranks are done.

    Raises:
        UserError: if training was given up.
    """
    waiting = Path(folder.path, "run", CHECKPOINT)
    with _started(folder, processes) as agent:
        while True:
            ended = agent.poll() is not None
            names = sorted(path.name for path in waiting.glob("epoch-*.safetensors"))
            if names and (number := int(names[-1].removeprefix("epoch-")[:5])) > last:
                try:
                    content = (waiting / names[-1]).read_bytes()
                except FileNotFoundError:  # the file was deleted because newer ones exist
                    continue
                last = number
                yield content
            elif ended:
                break
            else:
                time.sleep(POLL_SECONDS)
    if folder.exists("error.json"):
        error = folder.read_json("error.json")
        raise (Diverged if error["diverged"] else UserError)(error["message"])
    if agent.returncode:
        output = Path(folder.path, "log").read_text(errors="replace")[-MOST_SHOWN:]
        raise UserError(
            f"the {processes} processes of the training ended {MOST_RESTARTS + 1} times before "
            "they were done, as they do where memory runs out; train in fewer with --processes. "
            f"The last of what they wrote: {output.strip()}"
        )


@contextlib.contextmanager
def _started(folder: Folder, processes: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start torchrun with the ranks; all of them end at the end of the block, or with this
    process."""
    num_threads = max(1, torch.get_num_threads() // processes)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(num_threads),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    arguments = [sys.executable, "-m", "recmeta.metalearn.outer_loop.rank"]
    arguments += ["agent", str(os.getpid()), folder.path, str(processes), str(MOST_RESTARTS)]
    with open(Path(folder.path, "log"), "wb") as log:
        agent = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield agent
        finally:
            _end(agent)


def _end(agent: subprocess.Popen[bytes]) -> None:
    """Terminate torchrun, which terminates the ranks."""
    if agent.poll() is None:
        agent.send_signal(signal.SIGTERM)
        try:
            agent.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


# What the ranks read ------------------------------------------------------------------------------


def write(
    folder: Folder,
    job: Job,
    model: Model,
    tasks: Mapping[str, Tasks],
    held: Mapping[str, torch.Tensor] | None,
    left_out_KIF: torch.Tensor | None,
) -> None:
    """Write the input of a training.

    Args:
        tasks: `train` and `dev`.
    """
    model.save(folder / "model")
    with sealing(folder / "catalogue") as place:
        write_items(place, model.catalogue.items)
        write_statistics(place, model.catalogue.statistics)
    for name, some in tasks.items():
        write_tasks_for_processes(folder, f"{name}.arrow", some)
    tensors: Params = {f"{HELD}{name}": rows.cpu() for name, rows in (held or {}).items()}
    if left_out_KIF is not None:
        tensors[LEFT_OUT] = left_out_KIF.cpu().contiguous()
    folder.write_bytes("tensors.safetensors", safetensors.torch.save(tensors))
    folder.write_json("job.json", to_dict(job))


def work(folder: Folder) -> None:
    """Train as one of the ranks. A user's error is written to a file and not raised, since a
    restart would not help."""
    job = parse(Job, folder.read_json("job.json"))
    os.environ[TRUSTED] = ",".join(filter(None, [os.environ.get(TRUSTED), job.module]))
    device = local_device(torch.device(job.device))
    ranks = Ranks.joined(device)
    catalogue = folder / "catalogue"
    model = Model.load(folder / "model", device).on(
        read_items(catalogue), read_statistics(catalogue), with_lists=False
    )
    model.params = {name: model.params[name] for name in job.names}
    tensors = safetensors.torch.load(folder.read_bytes("tensors.safetensors"))
    try:
        trainer.train(
            model,
            read_tasks(folder, "train.arrow"),
            read_tasks(folder, "dev.arrow"),
            episodes=job.episodes,
            config=job.config,
            seed=job.seed,
            in_order=job.in_order,
            checkpoint=folder / "run",
            held={
                name.removeprefix(HELD): rows
                for name, rows in tensors.items()
                if name.startswith(HELD)
            },
            left_out_KIF=tensors.get(LEFT_OUT),
            ranks=ranks,
        )
    except UserError as error:
        if ranks.is_first:
            diverged = isinstance(error, Diverged)
            folder.write_json("error.json", {"message": str(error), "diverged": diverged})
    ranks.leave()
