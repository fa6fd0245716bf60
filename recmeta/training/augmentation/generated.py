"""Tasks of generated users, whose ratings the `adversarial` learner makes up from a profile.

A generated user has the profile of a training user with the rare value, the number of rows and the
time of another training user, items drawn by their popularity at that time, and generated ratings
of these items. So no row of anybody is copied, but the profile is.

Legend: B users, I items, N rows of all users.
"""

import dataclasses
import logging
from collections import Counter

import numpy as np
import pyarrow as pa
import torch

from recmeta import schema
from recmeta.errors import UserError
from recmeta.evaluation.certificate import attribute_of
from recmeta.metalearn.algorithms.model_based.adversarial import Adversarial
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.processes import train
from recmeta.tasks.arrays import Float32Array, IntArray, offsets_of
from recmeta.tasks.item_files import ItemStatistics
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet
from recmeta.training.augmentation.config import AugmentConfig
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start, best_of
from recmeta.workspace import Folder

GENERATOR = "adversarial"
USERS_AT_ONCE = 256
log = logging.getLogger(__name__)


def with_generated(
    config: AugmentConfig,
    task_set: TaskSet,
    device: torch.device,
    folder: Folder,
    seed: int,
    processes: int = 1,
) -> TaskSet:
    """Return the task set with generated users behind its training users, or as it is where no
    value of the attribute is rare.

    Args:
        folder: of the generator's checkpoints. If there are some already, training continues from
            them.
        seed: of the generator and of who is generated.
        processes: number of processes that share each outer gradient.

    Raises:
        UserError: for implicit feedback, and for an attribute that users do not have or of which
            one has several values.
    """
    if task_set.spec.objective != "rating":
        raise UserError(
            "augment generates ratings, and the feedback of these tasks is implicit: leave the "
            "table [train.augment] out."
        )
    real = task_set.tasks("train")
    wanted = missing(config, real)
    if not wanted:
        return task_set
    generator = trained_generator(task_set, device, folder, seed, processes)
    tasks = generated(generator, real, task_set.statistics(), config, seed)
    log.info(
        "%d users are generated for rare values of %s: %s", len(tasks), config.attribute, wanted
    )
    return task_set.with_tasks({"train": Tasks.joined([real, tasks])})


def missing(config: AugmentConfig, real: Tasks) -> dict[str, int]:
    """Return how many users each rare value lacks; values that nobody has are not known."""
    values = attribute_of(real, config.attribute, "augment.attribute") or []
    counts = Counter(value for value in values if value is not None)
    return {
        value: config.least_users - count
        for value, count in sorted(counts.items())
        if count < config.least_users
    }


def trained_generator(
    task_set: TaskSet, device: torch.device, folder: Folder, seed: int, processes: int = 1
) -> Model:
    """Return the adversarial learner, trained by its recipe on the task set's users."""
    how = dataclasses.replace(training_of(GENERATOR), seed=seed)
    begun = at_start(how, task_set, device)
    start = {name: p.detach().clone() for name, p in begun.model.params.items()}
    development = task_set.tasks("dev")
    history = train(
        begun.model,
        task_set.tasks("train"),
        development,
        processes=processes,
        episodes=how.episodes,
        config=how.training,
        seed=seed,
        in_order=task_set.spec.temporal,
        checkpoint=folder / "generator",
    )
    best_of(begun.model, start, history, development, how.training)
    return begun.model


def generated(
    generator: Model, real: Tasks, statistics: ItemStatistics, config: AugmentConfig, seed: int
) -> Tasks:
    """Return as many generated users as rare values lack, value by value."""
    rng = np.random.default_rng(seed)
    profile_B = drawn_profiles(config, real, rng)
    donor_B = rng.integers(0, len(real), len(profile_B))
    asked = _asking(real, statistics, profile_B, donor_B, rng)
    return drawn(generator, asked, seed)


def drawn_profiles(config: AugmentConfig, real: Tasks, rng: np.random.Generator) -> IntArray:
    """Return (B,) places of users with rare values, as often as the values lack users."""
    values = np.array(attribute_of(real, config.attribute, "augment.attribute"), object)
    parts = [
        rng.choice(np.flatnonzero(values == value), number)
        for value, number in missing(config, real).items()
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def drawn(generator: Model, asked: Tasks, seed: int) -> Tasks:
    """Return the same tasks with values that the generator makes up for the rows of the query from
    the profile and the support, on the scale's levels where it has some. The support stays.

    Args:
        generator: a trained model of the `adversarial` learner.
        seed: another one gives other users.
    """
    learner = generator.learner
    assert isinstance(learner, Adversarial)
    parts = []
    for start in range(0, len(asked), USERS_AT_ONCE):
        places = np.arange(start, min(start + USERS_AT_ONCE, len(asked)))
        batch = generator.batch(asked.take(places))
        name_B = torch.from_numpy(places).to(generator.device)
        key = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            value_BR = learner.draw(generator.params, batch.support, batch.query, name_B, key)
        value_N = generator.units.to_values(value_BR)[batch.query.mask_BR.cpu().numpy()]
        parts.append(_on_levels(value_N, generator.units.value_range, learner.config.num_levels))
    query = dataclasses.replace(asked.query, value=np.concatenate(parts))
    return dataclasses.replace(asked, query=query)


def _asking(
    real: Tasks,
    statistics: ItemStatistics,
    profile_B: IntArray,
    donor_B: IntArray,
    rng: np.random.Generator,
) -> Tasks:
    """Return tasks without values and without support: the profiles of some users, the times and
    numbers of rows of others, and items that are drawn by their popularity then."""
    donors = real.take(donor_B)
    num_rows_B = donors.support.lengths + donors.query.lengths
    items = [
        _popular(statistics.num_users[snapshot], num_rows, rng)
        for snapshot, num_rows in zip(donors.snapshot, num_rows_B, strict=True)
    ]
    lengths = list(map(len, items))
    num_users, total = len(donor_B), sum(lengths)
    names = pa.array([f"generated-{number:06d}" for number in range(num_users)])
    profile = real.profile.take(pa.array(profile_B))
    place = profile.column_names.index(schema.USER_ID)
    empty = donors.support.first(0)
    query = Ragged(
        offsets_of(lengths),
        np.concatenate(items).astype(np.int32),
        np.zeros(total, np.float32),
        np.zeros(total, np.bool_),
    )
    return dataclasses.replace(
        donors,
        profile=profile.set_column(place, profile.schema.field(place), names),
        support=empty,
        query=query,
    )


def _popular(num_users_I: Float32Array, num_rows: int, rng: np.random.Generator) -> IntArray:
    """Return distinct items, drawn in proportion to how many users had met them; fewer than asked
    for where fewer had been met at all."""
    met: IntArray = np.flatnonzero(num_users_I)
    if not len(met):
        return met
    weight = num_users_I[met].astype(np.float64)
    drawn: IntArray = rng.choice(
        met, min(num_rows, len(met)), replace=False, p=weight / weight.sum()
    )
    return drawn


def _on_levels(
    value_N: Float32Array, value_range: tuple[float, float], num_levels: int | None
) -> Float32Array:
    """Return values without what their change of units has rounded."""
    if num_levels is None:
        return value_N
    step = (value_range[1] - value_range[0]) / (num_levels - 1)
    return (value_range[0] + step * np.round((value_N - value_range[0]) / step)).astype(np.float32)
