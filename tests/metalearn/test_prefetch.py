"""Batches built ahead are those built when asked for; who shares one is chance alone."""

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from recmeta.metalearn.outer_loop.prefetch import AHEAD, Built, ahead, arrived, prefetched
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.tasks.episodes import EpisodeConfig, epoch
from recmeta.tasks.task_set import Ragged, Tasks, TaskSet


def batch_of(number: int) -> TaskBatch:
    value = torch.full((1, 1), float(number))
    rows = Rows(value.long(), value[..., None], value, value > -1)
    return TaskBatch(Support({}, rows), rows)


def build(number: int) -> Built:
    return batch_of(number), None


def numbers(batches: Iterator[TaskBatch]) -> list[int]:
    return [int(batch.query.value_BR) for batch in batches]


@pytest.mark.parametrize("count", [0, 1, AHEAD, 50])
def test_batches_come_in_order(count: int) -> None:
    assert numbers(arrived(ahead(iter(range(count)), build))) == list(range(count))
    assert numbers(prefetched(iter(range(count)), batch_of, torch.device("cpu"))) == [*range(count)]


def test_the_next_batches_are_built_while_one_is_used() -> None:
    built = [threading.Event() for _ in range(20)]

    def tells(number: int) -> Built:
        built[number].set()
        return build(number)

    batches = ahead(iter(range(20)), tells)
    next(batches)
    assert built[AHEAD].wait(timeout=60)
    assert not built[-1].is_set()  # but not all: memory is bounded
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("recmeta-draw")]


def test_an_exception_comes_in_its_turn() -> None:
    def fails(number: int) -> Built:
        if number == 3:
            raise RuntimeError("batch 3")
        return build(number)

    batches = ahead(iter(range(9)), fails)
    assert numbers(batch for batch, _ in itertools.islice(batches, 3)) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="batch 3"):
        next(batches)


def with_lengths(tasks: Tasks, lengths: np.ndarray) -> Tasks:
    """Return as many tasks with supports of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = (np.zeros(offsets[-1], kind) for kind in (np.int32, np.float32, np.bool_))
    return Tasks(
        tasks.profile,
        tasks.cut_time,
        tasks.snapshot,
        tasks.state,
        Ragged(offsets, *rows),
        tasks.query,
    )


@pytest.mark.parametrize("resample", [True, False])
def test_who_shares_a_batch_does_not_depend_on_lengths(task_set: TaskSet, resample: bool) -> None:
    tasks = task_set.tasks("train")
    config = EpisodeConfig(batch_size=7, resample=resample, min_rows=0)
    short = with_lengths(tasks, np.full(len(tasks), 1))
    rising = with_lengths(tasks, np.arange(len(tasks)))
    orders = []
    for some in (short, rising):
        drawn = [positions for positions, _ in epoch(some, config, np.random.default_rng(5))]
        assert sorted(np.concatenate(drawn).tolist()) == list(range(len(tasks)))
        orders.append(np.concatenate(drawn).tolist())
    assert orders[0] == orders[1]
    first_batches = [
        next(epoch(rising, config, np.random.default_rng(seed)))[0] for seed in range(400)
    ]
    mean, spread = rising.support.lengths.mean(), rising.support.lengths.std()
    found = rising.support.lengths[np.concatenate(first_batches)].mean()
    assert abs(found - mean) < 4 * spread / np.sqrt(400 * 7)
