"""N-way K-shot episodes of handwritten digits as tasks: an image is an item, a class a taste.

scikit-learn's digits (Alpaydin and Kaynak, 1998; 8 × 8 pixels) in four rotations each are forty
classes, as Vinyals et al. (NeurIPS 2016) and Santoro et al. (ICML 2016) make classes of Omniglot's
characters. Twenty are learned from and twenty are tested: the rotations of digits that look nearly
the same upside down (0, 1, 8), or like another one (6 and 9), are among the former.

An episode of N classes is N tasks over the same images: in the n-th, the n-th class is 1 and the
others are 0. A query image is of the class whose task says the most.

Legend: C classes, E episodes, N ways, M images of an episode, A attributes.
"""

import dataclasses

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Objective, TaskSet
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.workspace import Folder

LEARNED, TESTED = (0, 1, 6, 8, 9), (2, 3, 4, 5, 7)
"""Digits of the classes."""
ROTATIONS = 4
IMAGES = 40
"""The images of each digit that are used."""
TEST_SHARE, DEV_SHARE = 0.25, 0.1
"""Shares of the episodes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeConfig:
    """What an episode is."""

    num_ways: int
    """Classes."""
    num_shots: int
    """Known images of each class."""
    num_queries: int
    """Images of each class to be told apart."""
    num_episodes: int
    """Episodes in all, those of the test among them."""

    @property
    def num_known(self) -> int:
        """Known images of an episode."""
        return self.num_ways * self.num_shots


@dataclasses.dataclass(frozen=True)
class _Log:
    interactions: pa.Table
    users: pa.Table
    items: pa.Table
    objective: Objective = "rating"


def write_episodes(config: EpisodeConfig, folder: Folder, seed: int) -> TaskSet:
    """Write episodes as a task set, and return it. The tasks of an episode follow one another."""
    rng = np.random.default_rng(seed)
    image_CIA = images()
    of_class = np.arange(image_CIA.shape[0] * IMAGES).reshape(-1, IMAGES)
    num_classes = len(LEARNED) * ROTATIONS
    num_tested = round(TEST_SHARE * config.num_episodes)
    items = np.stack(
        [
            _images_of(config, of_class, classes, rng)
            for classes in (
                np.arange(num_classes) + (num_classes if episode < num_tested else 0)
                for episode in range(config.num_episodes)
            )
        ]
    )
    item_TM = np.repeat(items, config.num_ways, axis=0)
    way_M = np.tile(np.arange(config.num_ways), config.num_shots + config.num_queries)
    value_NM = np.arange(config.num_ways)[:, None] == way_M
    value_TM = np.tile(value_NM, (config.num_episodes, 1)).astype(float)
    attribute_IA = image_CIA.reshape(-1, image_CIA.shape[2])
    shares = ShareConfig(
        test_share=num_tested / config.num_episodes,
        dev_share=round(DEV_SHARE * config.num_episodes) / config.num_episodes,
        num_support=config.num_known,
    )
    return write_task_set(_log(item_TM, value_TM, attribute_IA), folder, shares)


def images() -> Float64Array:
    """Return (C, I, A) the images by class: sums of 2 × 2 pixels, those of `LEARNED` first."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("the digits need scikit-learn: pip install scikit-learn.") from error
    found = load_digits()
    classes = [
        np.rot90(found.images[found.target == digit][:IMAGES], turns, (1, 2))
        for digit in (*LEARNED, *TESTED)
        for turns in range(ROTATIONS)
    ]
    pixel = np.stack(classes).reshape(len(classes), IMAGES, 4, 2, 4, 2).sum((3, 5))
    flat: Float64Array = pixel.reshape(len(classes), IMAGES, 16) / 64
    return flat


def _images_of(
    config: EpisodeConfig, of_class: IntArray, classes: IntArray, rng: np.random.Generator
) -> IntArray:
    """Return (M,) the images of an episode, one of each class after the other: the known ones
    first."""
    drawn = rng.permutation(classes)[: config.num_ways]
    each = config.num_shots + config.num_queries
    image_NM = np.stack([rng.choice(of_class[c], each, replace=False) for c in drawn])
    found: IntArray = image_NM.T.reshape(-1)
    return found


def _log(item_TM: IntArray, value_TM: Float64Array, attribute_IA: Float64Array) -> _Log:
    num_tasks, num_rows = item_TM.shape
    user_id = pa.array([f"t{n:05}" for n in range(num_tasks)])
    item_id = pa.array([f"x{n:05}" for n in range(len(attribute_IA))])
    nowhen = pa.nulls(len(item_id), schema.TIME)
    attributes = {f"x{a}": pa.array(of_I) for a, of_I in enumerate(attribute_IA.T)}
    return _Log(
        pa.table(
            {
                schema.USER_ID: user_id.take(pa.array(np.repeat(np.arange(num_tasks), num_rows))),
                schema.ITEM_ID: item_id.take(pa.array(item_TM.reshape(-1))),
                schema.VALUE: pa.array(value_TM.reshape(-1)),
            }
        ),
        pa.table({schema.USER_ID: user_id}),
        pa.table({schema.ITEM_ID: item_id, schema.VALID_FROM: nowhen, **attributes}),
    )
