"""Batches built ahead of the device that waits for them.

On a CPU, building a batch takes a few percent of its gradient's time, and a thread that builds
ahead would take that time from the threads that compute, so that batches are built on demand. A GPU
would wait for them; there, threads draw and build some batches ahead and copy them on a stream of
their own, from pinned memory, while the GPU computes.
"""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from recmeta.metalearn.tensors.batch import TaskBatch

Draw = TypeVar("Draw")
Built = tuple[TaskBatch, torch.cuda.Event | None]

AHEAD = 4
"""The number of batches that are built, or being built, while one is used."""


def prefetched(
    draws: Iterator[Draw], build: Callable[[Draw], TaskBatch], device: torch.device
) -> Iterator[TaskBatch]:
    """Yield the batch of each draw, in order, and ready to be used on the device."""
    if device.type != "cuda":
        return map(build, draws)
    return arrived(ahead(draws, _on_stream(build, device)))


def ahead(draws: Iterator[Draw], build: Callable[[Draw], Built]) -> Generator[Built, None, None]:
    """Yield the result of `build` for each draw, in order, while threads build the next ones.

    One thread draws, since a draw may depend on the one before; batches are built in parallel. An
    exception in either reaches the caller in its turn.
    """
    drawing = ThreadPoolExecutor(1, "recmeta-draw")
    building = ThreadPoolExecutor(AHEAD, "recmeta-build")

    def one_or_none() -> list[Draw]:
        return list(itertools.islice(draws, 1))

    def built(drawn: Future[list[Draw]]) -> Built | None:
        found = drawn.result()
        return build(found[0]) if found else None

    def submit() -> Future[Built | None]:
        return building.submit(built, drawing.submit(one_or_none))

    try:
        waiting = deque(submit() for _ in range(AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(submit())
            yield batch
    finally:
        for pool in (drawing, building):
            pool.shutdown(wait=True, cancel_futures=True)


def arrived(batches: Iterator[Built]) -> Iterator[TaskBatch]:
    """Yield batches that the current stream may use: the stream waits for their copies, and their
    memory is kept until the stream is done with them."""
    for batch, copied in batches:
        if copied is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(copied)
            for tensor in batch.tensors():
                tensor.record_stream(stream)
        yield batch


def _on_stream(build: Callable[[Draw], TaskBatch], device: torch.device) -> Callable[[Draw], Built]:
    """Return `build` on a stream of its own, with the event of its end."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))  # for the tensors that building reads

    def built(draw: Draw) -> Built:
        with torch.cuda.stream(stream):
            batch = build(draw)
            return batch, stream.record_event()

    return built
