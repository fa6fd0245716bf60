"""How much faster many processes train: seconds of an epoch in one and in several, in one run.

    python -m benchmarks.speed.many_processes --algorithm bayesian-linear --processes 1 2

Trainings in one and in several processes take turns, so that what else the machine does falls on
all of them alike. What an epoch takes is the difference between a longer and a shorter training, so
that the start of the processes is in neither; it is stated by itself. By the clock, efficiency is
the share of the processors that is of use; by the processors' time, what is not done twice.
"""

import argparse
import json
import os
import tempfile
import time

import torch

from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.outer_loop.processes import train
from recmeta.metalearn.outer_loop.trainer import TrainingConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.workspace import Folder

Taken = dict[str, float]
"""Seconds, by what they are of."""


def main() -> None:
    """Train in each number of processes in turn, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithm", default="bayesian-linear")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--users", type=int, default=4_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        size = SyntheticConfig(num_users=asked.users, num_items=asked.items, rows_per_user=(20, 60))
        shares = ShareConfig(dev_share=0.05, test_share=0.05)
        task_set = write_task_set(generate(size, seed=1), Folder.at(place), shares)
        found: dict[int, list[Taken]] = {number: [] for number in asked.processes}
        for _ in range(asked.rounds):
            for number in asked.processes:
                found[number].append(_an_epoch(task_set, asked, number))
    first = asked.processes[0]
    for number, runs in found.items():
        line = {
            "algorithm": asked.algorithm,
            "processes": number,
            "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 1),
            **{name: round(min(t[name] for t in runs), 3) for name in runs[0]},
        }
        for name in ("clock", "processor"):
            alone, shared = (
                min(t[f"epoch_{name}_seconds"] for t in found[n]) for n in (first, number)
            )
            count = number / first if name == "clock" else 1
            line[f"efficiency_by_{name}"] = round(alone / shared / count, 3)
        print(json.dumps(line), flush=True)  # noqa: T201


def _an_epoch(task_set: TaskSet, asked: argparse.Namespace, processes: int) -> Taken:
    """Return what an epoch takes, and what comes before the first one."""
    short, long = (_measured(task_set, asked, processes, n * asked.epochs) for n in (1, 3))
    slope = {name: (long[name] - short[name]) / (2 * asked.epochs) for name in short}
    return {
        "epoch_clock_seconds": slope["clock"],
        "epoch_processor_seconds": slope["processor"],
        "start_clock_seconds": short["clock"] - asked.epochs * slope["clock"],
    }


def _measured(task_set: TaskSet, asked: argparse.Namespace, processes: int, epochs: int) -> Taken:
    """Train once, and return what it took."""
    model = Model.untrained(ModelConfig(algorithm=asked.algorithm), task_set, torch.device("cpu"))
    model.params = model.learner.init_params(torch.Generator().manual_seed(0))
    clock, spent = time.perf_counter(), sum(os.times()[:4])
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        processes=processes,
        episodes=EpisodeConfig(batch_size=asked.batch_size),
        config=TrainingConfig(epochs=epochs, patience=epochs),
        seed=0,
    )
    return {
        "clock": time.perf_counter() - clock,
        "processor": sum(os.times()[:4]) - spent,
    }


if __name__ == "__main__":
    main()
