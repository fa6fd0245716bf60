"""What one training of a learner, and the nearest known image, make of the test episodes.

Legend: T test tasks, R query rows of a task, M known images, E test episodes, I images, A
attributes.
"""

import dataclasses
import time

import numpy as np
import torch

from benchmarks.accuracy import code
from benchmarks.few_shot.episodes import EpisodeConfig, images
from recmeta.config import fingerprint
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, train
from recmeta.metalearn.registry import LEARNERS as LEARNER_FILES
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.tensors.encoding import FeatureConfig
from recmeta.tasks import episodes
from recmeta.tasks.arrays import Float64Array
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder

NETWORK = PreferenceConfig(embedding_dim=8, hidden_dims=(32,), use_statistics=False)
TRAINING = TrainingConfig(epochs=20, patience=5, learning_rate=1e-2, weight_decay=0.0)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one training of a learner is worth."""

    accuracy_E: Float64Array
    seconds: float
    """CPU time of the training."""


def cell(learner: str, config: EpisodeConfig, task_set: TaskSet, seed: int, work: Folder) -> Cell:
    """Return what a learner makes of the test episodes, read from `work` if it is there."""
    version = code.fingerprint("benchmarks.few_shot.measured", LEARNER_FILES.module_of(learner))
    key = fingerprint(dataclasses.asdict(config), learner, seed, version)
    if not work.exists(f"{key}.json"):
        started = time.process_time()
        model = trained(learner, task_set, seed)
        seconds = time.process_time() - started
        accuracy_E = accuracy(model, task_set, config).tolist()
        work.write_json(f"{key}.json", {"accuracy": accuracy_E, "seconds": seconds})
    kept = work.read_json(f"{key}.json")
    return Cell(np.array(kept["accuracy"]), kept["seconds"])


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
    """Return the same of a baseline, the class of the known image at the least Euclidean
    distance."""
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
