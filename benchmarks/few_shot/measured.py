"""Accuracy of learners in N-way K-shot classification, beside the nearest known image.

Legend: T test tasks, R query rows of a task, E test episodes, N ways, I images, A attributes.
"""

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy import code
from benchmarks.accuracy.summary import plain
from benchmarks.command import Found
from benchmarks.few_shot.episodes import EpisodeConfig, images, write_episodes
from recmeta.config import fingerprint
from recmeta.evaluation.comparison.bootstrap import mean_intervals
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.registry import LEARNERS as LEARNER_FILES
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.records.provenance import library_versions
from recmeta.reporting.markdown import table
from recmeta.tasks import episodes
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder, MemoryFolder

NEAREST = "nearest image"
"""The baseline: the class of the known image at the least Euclidean distance."""
LEARNERS = ("maml", "prototypical", "mamo", "adversarial")
"""The learners that are compared unless others are named."""
PROBLEMS = {
    "5-way 1-shot": EpisodeConfig(num_ways=5, num_shots=1, num_queries=3, num_episodes=240),
    "20-way 1-shot": EpisodeConfig(num_ways=20, num_shots=1, num_queries=2, num_episodes=60),
}
NETWORK = PreferenceConfig(embedding_dim=8, hidden_dims=(32,), use_statistics=False)
TRAINING = TrainingConfig(epochs=20, patience=5, learning_rate=1e-2, weight_decay=0.0)
RULES = (
    "scikit-learn's handwritten digits in four rotations are forty classes: those of 0, 1, 6, 8 "
    "and 9 are learned from, those of 2, 3, 4, 5 and 7 tested. An episode of N classes is N tasks, "
    "each one class against the rest, and an image is of the class whose task says the most. "
    "Learners read the sums of 2 × 2 pixels, start at random, have one hidden layer of 32 units, "
    "and otherwise their defaults; nothing has been tuned. Means over test episodes with their "
    "95 % interval, each episode the mean over the seeds."
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one training of a learner is worth."""

    accuracy_E: Float64Array
    seconds: float
    """CPU time of the training."""


def run(learners: Sequence[str], num_seeds: int, work: Folder) -> Found:
    """Measure every learner in every problem.

    Args:
        work: keeps what has been measured, so that a run that was killed goes on.
    """
    rows = []
    for problem, config in PROBLEMS.items():
        # The episodes are the same for every seed; what learners draw differs.
        task_set = write_episodes(config, MemoryFolder(), 0)
        found = {NEAREST: [Cell(nearest_accuracy(task_set, config), 0.0)]}
        for seed, learner in itertools.product(range(num_seeds), learners):
            found.setdefault(learner, []).append(cell(learner, config, task_set, seed, work))
        for learner, cells in found.items():
            accuracy_E = np.mean([one.accuracy_E for one in cells], axis=0)
            (mean,) = mean_intervals(accuracy_E[:, None], np.random.default_rng(0))
            seconds = round(sum(one.seconds for one in cells) / len(cells), 1)
            of_one = {"problem": problem, "learner": learner, "accuracy": plain(mean)}
            rows.append(of_one | {"training_cpu_seconds": seconds})
    data = {
        "title": "N-way K-shot classification of handwritten digits",
        "rules": RULES,
        "command": "python -m benchmarks.few_shot",
        "seeds": num_seeds,
        "problems": {name: dataclasses.asdict(one) for name, one in PROBLEMS.items()},
        "libraries": library_versions(),
        "rows": rows,
    }
    return data, f"{RULES}\n\n{accuracy_table(rows)}"


def cell(learner: str, config: EpisodeConfig, task_set: TaskSet, seed: int, work: Folder) -> Cell:
    """Return what a learner makes of the test episodes, read from `work` if it is there."""
    version = code.fingerprint("benchmarks.few_shot.measured", LEARNER_FILES.module_of(learner))
    key = fingerprint(RULES, dataclasses.asdict(config), learner, seed, version)
    if not work.exists(f"{key}.json"):
        started = time.process_time()
        model = trained(learner, task_set, seed)
        seconds = time.process_time() - started
        accuracy_E = accuracy(model, task_set, config).tolist()
        work.write_json(f"{key}.json", {"accuracy": accuracy_E, "seconds": seconds})
    kept = work.read_json(f"{key}.json")
    return Cell(np.array(kept["accuracy"]), kept["seconds"])


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the accuracies in per cent, a row per learner, as Markdown."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    shown = {(row["learner"], row["problem"]): _percent(row["accuracy"]) for row in rows}
    return table(
        ["accuracy in %", *problems],
        [
            [name if name == NEAREST else f"`{name}`", *(shown[name, p] for p in problems)]
            for name in dict.fromkeys(row["learner"] for row in rows)
        ],
    )


def _percent(found: Mapping[str, float]) -> str:
    mean, low, high = (100 * found[end] for end in ("mean", "ci_low", "ci_high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def trained(learner: str, task_set: TaskSet, seed: int) -> Model:
    """Return a learner that was meta-trained on the episodes of other classes."""
    config = ModelConfig(
        algorithm=learner, network=NETWORK, features=FeatureConfig(use_item_id=False)
    )
    model = Model.untrained(config, task_set, torch.device("cpu"))
    train(
        model,
        task_set.tasks("train"),
        task_set.tasks("dev"),
        episodes=episodes.EpisodeConfig(batch_size=20, resample=False, max_query=100),
        config=TRAINING,
        seed=seed,
    )
    return model


def accuracy(model: Model, task_set: TaskSet, config: EpisodeConfig) -> Float64Array:
    """Return (E,) the share of query images whose class is found."""
    tasks = task_set.tasks("test")
    rows = model.catalogue.rows(tasks.query, tasks)
    with torch.no_grad():
        state = Scorer.of(model).adapt(tasks)
        said_TR = model.learner.predict(model.params, state, rows).mean_BR
    return _found(said_TR.numpy().astype(np.float64), task_set, config)


def nearest_accuracy(task_set: TaskSet, config: EpisodeConfig) -> Float64Array:
    """Return the same of the nearest known image."""
    tasks = task_set.tasks("test")
    image_IA = images().reshape(-1, images().shape[2])
    num_rows = config.num_ways * config.num_queries
    known_TM = tasks.support.item.reshape(len(tasks), config.num_known)
    asked_TR = tasks.query.item.reshape(len(tasks), num_rows)
    is_way_TM = tasks.support.value.reshape(len(tasks), config.num_known) > 0.5
    gap_TRMA = image_IA[asked_TR][:, :, None] - image_IA[known_TM][:, None]
    distance_TRM = np.square(gap_TRMA).sum(3)
    said_TR = -np.where(is_way_TM[:, None], distance_TRM, np.inf).min(2)
    return _found(said_TR, task_set, config)


def _found(said_TR: Float64Array, task_set: TaskSet, config: EpisodeConfig) -> Float64Array:
    """Return (E,) how often the task that says the most is that of the image's class."""
    truth_TR = task_set.tasks("test").query.value.reshape(said_TR.shape)
    in_episodes = (-1, config.num_ways, said_TR.shape[1])
    is_right_ER = said_TR.reshape(in_episodes).argmax(1) == truth_TR.reshape(in_episodes).argmax(1)
    found: Float64Array = is_right_ER.mean(1)
    return found
