"""The time of an epoch of meta-training in one process and in several, measured in one run.

    python -m benchmarks.speed.many_processes --algorithm maml --processes 1 2

Trainings in each number of processes take turns, so that what else the machine does falls on all of
them alike. What an epoch takes is the difference between a longer and a shorter training, so that
what comes before the first is in neither. By the clock, efficiency is the speed-up over the number
of processes, which says nothing of a machine whose processors do something else meanwhile. By the
processors' time of the ranks it is the share of their work that one process would do, too.
"""

import argparse
import json
import os
import socket
import tempfile
import time

import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.outer_loop import processes as many
from recmeta.metalearn.outer_loop import trainer
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.workspace import Folder


def main() -> None:
    """Train in each number of processes in turn, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", default="bayesian-linear")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--users", type=int, default=4_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        size = SyntheticConfig(num_users=asked.users, num_items=asked.items, rows_per_user=(20, 60))
        shares = ShareConfig(dev_share=0.05, test_share=0.05)
        task_set = write_task_set(generate(size, seed=1), Folder.at(place), shares)
        warm = _model(task_set, asked.algorithm)  # imports what the ranks, which are forked, need
        few = task_set.tasks("dev")
        trainer.train(
            warm, few, few, episodes=EpisodeConfig(), config=TrainingConfig(epochs=1), seed=0
        )
        found: dict[int, list[dict[str, float]]] = {number: [] for number in asked.processes}
        for _ in range(asked.rounds):
            for number in asked.processes:
                found[number].append(_an_epoch(task_set, asked, number))
    least = {
        number: {name: min(taken[name] for taken in runs) for name in runs[0]}
        for number, runs in found.items()
    }
    alone = least[asked.processes[0]]
    for number, taken in least.items():
        line = {
            "algorithm": asked.algorithm,
            "processes": number,
            "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 1),
            **{f"epoch_{name}_seconds": round(seconds, 3) for name, seconds in taken.items()},
            "efficiency_by_clock": round(alone["clock"] / taken["clock"] / number, 2),
            "efficiency_by_processor": round(alone["processor"] / taken["processor"], 2),
        }
        print(json.dumps(line), flush=True)  # noqa: T201


def _an_epoch(task_set: TaskSet, asked: argparse.Namespace, processes: int) -> dict[str, float]:
    """Return what an epoch takes by the clock, and of all ranks' processors."""
    short, long = (_measured(task_set, asked, processes, n * asked.epochs) for n in (1, 4))
    return {name: (long[name] - short[name]) / (3 * asked.epochs) for name in short}


def _model(task_set: TaskSet, algorithm: str) -> Model:
    """Return a model with drawn parameters."""
    model = Model.untrained(ModelConfig(algorithm=algorithm), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    return model


def _measured(
    task_set: TaskSet, asked: argparse.Namespace, processes: int, epochs: int
) -> dict[str, float]:
    """Train once, by ranks that are forked, and return what it took."""
    model = _model(task_set, asked.algorithm)
    job = many.Job(
        episodes=EpisodeConfig(batch_size=asked.batch_size),
        config=TrainingConfig(epochs=epochs, patience=epochs),
        seed=0,
        in_order=False,
        device="cpu",
        module="recmeta",
        names=tuple(model.params),
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        folder = Folder.at(place)
        tasks = {name: task_set.tasks(name) for name in ("train", "dev")}
        many.write(folder, job, model, tasks, None, None)
        begun = time.perf_counter()
        ranks = [_forked(folder, number, processes, port) for number in range(processes)]
        spent = 0.0
        for rank in ranks:
            _, status, usage = os.wait4(rank, 0)
            assert status == 0, "a rank failed"
            spent += usage.ru_utime + usage.ru_stime
        return {"clock": time.perf_counter() - begun, "processor": spent}


def _forked(folder: Folder, number: int, count: int, port: int) -> int:
    """Start a rank and return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        about = {"RANK": number, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in about.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
        many.work(folder)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
