"""The toy families of the meta-learning literature as logs: a task is a user, an input an item.

Legend: T tasks, N items, R rows of a task, A attributes.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmeta import schema
from recmeta.tasks.task_set import Objective, TaskSet
from recmeta.testing.tasks import ShareConfig, write_task_set
from recmeta.workspace import Folder

NUM_SHOTS = 10
NUM_WAYS = 3
TEST_SHARE = DEV_SHARE = 0.15


@dataclasses.dataclass(frozen=True)
class Toy:
    """A log of toy tasks."""

    interactions: pa.Table
    users: pa.Table
    items: pa.Table
    objective: Objective = "rating"


def sinusoids(folder: Folder, num_tasks: int = 300, seed: int = 0) -> TaskSet:
    """Write tasks y = a sin(x + p), a from 0.1 to 5 and p from 0 to π (Finn et al., 2017), at 25
    of 60 places x."""
    rng = np.random.default_rng(seed)
    x_N = np.linspace(-5, 5, 60)
    amplitude_T1 = rng.uniform(0.1, 5.0, (num_tasks, 1))
    phase_T1 = rng.uniform(0, np.pi, (num_tasks, 1))
    item_TR = np.stack([rng.choice(60, 25, replace=False) for _ in range(num_tasks)])
    return _written(item_TR, amplitude_T1 * np.sin(x_N[item_TR] + phase_T1), x_N[:, None], folder)


def lines(folder: Folder, num_tasks: int = 300, seed: int = 0) -> TaskSet:
    """Write tasks y = w · x + b with w ~ N(½, I) in four dimensions, at 25 of 60 places x."""
    rng = np.random.default_rng(seed)
    x_NA = rng.normal(size=(60, 4))
    weight_TA = 0.5 + rng.normal(size=(num_tasks, 4))
    item_TR = np.stack([rng.choice(60, 25, replace=False) for _ in range(num_tasks)])
    value_TR = np.einsum("ta,tra->tr", weight_TA, x_NA[item_TR]) + rng.normal(size=(num_tasks, 1))
    return _written(item_TR, value_TR, x_NA, folder)


def changes_of_mind(folder: Folder, num_tasks: int = 200, seed: int = 0) -> TaskSet:
    """Write tasks of 24 rows y = ±1 whose sign changes once, among the first ten: the last known
    row tells all that comes, and how many there are of each sign hardly anything."""
    rng = np.random.default_rng(seed)
    item_TR = np.stack([rng.choice(30, 24, replace=False) for _ in range(num_tasks)])
    sign_T1 = rng.choice([-1.0, 1.0], (num_tasks, 1))
    is_before_TR = np.arange(24) < rng.integers(1, 10, (num_tasks, 1))
    value_TR = np.where(is_before_TR, -sign_T1, sign_T1)
    return _written(item_TR, value_TR, rng.normal(size=(30, 2)), folder)


def digits(folder: Folder, num_episodes: int = 100, seed: int = 0) -> TaskSet:
    """Write N-way classification of scikit-learn's handwritten digits, one class against the rest.

    An episode has `NUM_WAYS` digits and as many tasks over the same images: in the n-th, the n-th
    digit is 1 and the others 0. The test episodes are of the digits 7 to 9, which no other has.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    rng = np.random.default_rng(seed)
    # Sums of 2 × 2 pixels: 16 attributes.
    pixel_NA = found.images.reshape(-1, 4, 2, 4, 2).sum((2, 4)).reshape(-1, 16) / 64
    of_digit = [np.flatnonzero(found.target == d)[:40] for d in range(10)]
    per_class = 8
    items, values = [], []
    for episode in range(num_episodes):
        is_test = episode < TEST_SHARE * num_episodes
        classes = rng.permutation([7, 8, 9] if is_test else 7)[:NUM_WAYS]
        item_CR = np.stack([rng.choice(of_digit[c], per_class, replace=False) for c in classes])
        order = rng.permutation(NUM_WAYS * per_class)
        for way in range(NUM_WAYS):
            is_way = np.repeat(np.arange(NUM_WAYS) == way, per_class)
            items.append(item_CR.reshape(-1)[order])
            values.append(is_way[order].astype(float))
    used, item_M = np.unique(np.stack(items), return_inverse=True)
    return _written(item_M.reshape(len(items), -1), np.stack(values), pixel_NA[used], folder)


def _written(
    item_TR: npt.NDArray[np.int64],
    value_TR: npt.NDArray[np.float64],
    attribute_NA: npt.NDArray[np.float64],
    folder: Folder,
) -> TaskSet:
    num_tasks, num_rows = item_TR.shape
    user_id = pa.array([f"t{n:05}" for n in range(num_tasks)])
    item_id = pa.array([f"x{n:05}" for n in range(len(attribute_NA))])
    attributes = {f"x{a}": pa.array(x_N) for a, x_N in enumerate(attribute_NA.T)}
    interactions = pa.table(
        {
            schema.USER_ID: user_id.take(pa.array(np.repeat(np.arange(num_tasks), num_rows))),
            schema.ITEM_ID: item_id.take(pa.array(item_TR.reshape(-1))),
            schema.VALUE: pa.array(value_TR.reshape(-1)),
        }
    )
    nowhen = pa.nulls(len(item_id), schema.TIME)
    toy = Toy(
        interactions,
        pa.table({schema.USER_ID: user_id}),
        pa.table({schema.ITEM_ID: item_id, schema.VALID_FROM: nowhen, **attributes}),
    )
    shares = ShareConfig(test_share=TEST_SHARE, dev_share=DEV_SHARE, num_support=NUM_SHOTS)
    return write_task_set(toy, folder, shares)
