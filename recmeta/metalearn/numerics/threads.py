"""Independent pieces of work on PyTorch's threads, each piece on one of them.

Small operations become slower when each is split over threads; running whole groups of users in
parallel uses the cores fully. Python runs them in parallel, since PyTorch releases the interpreter
lock while it computes.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def num_threads(device: torch.device) -> int:
    """Return the number of pieces of work that run in parallel; a GPU is fed by one thread."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def on_threads(work: Callable[[T], R], pieces: Sequence[T], device: torch.device) -> list[R]:
    """Return `work` of every piece, in order, as many at a time as there are threads."""
    return list(in_turn(work, pieces, device))


def in_turn(work: Callable[[T], R], pieces: Sequence[T], device: torch.device) -> Iterator[R]:
    """Yield `work` of every piece, in order, as many at a time as there are threads.

    A sum in the order of the pieces has the same bits for any number of threads.
    """
    if min(len(pieces), num_threads(device)) <= 1:
        yield from map(work, pieces)
        return
    recording = torch.is_grad_enabled()
    lowered = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type)

    def one(piece: T) -> R:
        with (  # gradient mode is set per thread
            torch.set_grad_enabled(recording),
            torch.autocast(device.type, dtype, enabled=lowered),
        ):
            return work(piece)

    yield from _pool(torch.get_num_threads(), os.getpid()).map(one, pieces)


@contextlib.contextmanager
def one_thread(wanted: bool) -> Iterator[None]:
    """Compute with one thread, for operations that are known to be small."""
    before = torch.get_num_threads()
    if not wanted or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def _pool(size: int, process: int) -> ThreadPoolExecutor:
    """Return a pool of threads of this process; a forked child must not wait for its parent's
    threads."""
    pool = ThreadPoolExecutor(size, "recmeta")
    ready = threading.Barrier(size + 1)

    def single() -> None:
        torch.get_num_threads()  # PyTorch would reset the number at a thread's first use
        torch.set_num_threads(1)
        ready.wait()

    for _ in range(size):
        pool.submit(single)
    ready.wait()
    torch.set_num_threads(size)  # PyTorch uses the last call's number for new threads
    return pool
