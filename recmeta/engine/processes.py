"""Units run by processes of this machine."""

import collections
import functools
import multiprocessing
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from recmeta.children import die_with
from recmeta.engine.config import MOST_LOSSES, WAITING_PER_WORKER, lost

K = TypeVar("K")
R = TypeVar("R")
_held: list[Callable[[Any], Any]] = []
"""What this worker calls with keys."""


def in_processes(
    make: Callable[[], Callable[[K], R]], keys: Iterable[K], workers: int
) -> Iterator[R]:
    """Yield the results in order. If a process is lost, so are the others of its pool, and a new
    pool runs the units that are not done.

    What workers hold is handed over in a file: through a pipe, this process would wait for ever for
    a worker that is killed before it has read everything.
    """
    with tempfile.TemporaryDirectory(prefix="recmeta-workers-") as folder:
        held = Path(folder, "held.pickle")
        with held.open("wb") as file:
            pickle.dump(make, file, protocol=pickle.HIGHEST_PROTOCOL)
        yield from _in_pools(held, keys, workers)


def _in_pools(held: Path, keys: Iterable[K], workers: int) -> Iterator[Any]:
    remaining = iter(keys)
    waiting: collections.deque[tuple[K, Future[Any]]] = collections.deque()
    losses = 0
    pool = _pool(held, workers)
    try:
        while True:
            try:
                while len(waiting) < WAITING_PER_WORKER * workers:
                    key = next(remaining)
                    waiting.append((key, _submitted(pool, key)))
            except StopIteration:
                if not waiting:
                    return
            key, future = waiting[0]
            try:
                result = future.result()
            except BrokenProcessPool as error:
                losses += 1
                if losses > MOST_LOSSES:
                    raise lost(losses) from error
                pool.shutdown(wait=True, cancel_futures=True)
                pool = _pool(held, workers)
                waiting = collections.deque(
                    (k, f if _is_done(f) else _submitted(pool, k)) for k, f in waiting
                )
                continue
            losses = 0
            waiting.popleft()
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(held: Path, workers: int) -> ProcessPoolExecutor:
    share = max(1, len(os.sched_getaffinity(0)) // workers)
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # forked, libraries' threads would be gone
        initializer=_begin,
        initargs=(os.getpid(), share, held),
    )


def _submitted(pool: ProcessPoolExecutor, key: K) -> Future[Any]:
    """Return the future of a key's result; if the pool is broken, the future says so."""
    try:
        return pool.submit(_work, key)
    except BrokenProcessPool as error:
        future: Future[Any] = Future()
        future.set_exception(error)
        return future


def _is_done(future: Future[Any]) -> bool:
    """Return whether a unit has a result, or an error of its own."""
    if not future.done() or future.cancelled():
        return False
    return not isinstance(future.exception(), BrokenProcessPool)


def _begin(parent: int, num_threads: int, held: Path) -> None:
    """Make what this worker holds. The worker ends with the process that started it.

    An error becomes that of the first unit: raised here, it would look like a worker that was lost.
    """
    die_with(parent)
    try:
        with held.open("rb") as file:
            make = pickle.load(file)  # written by that process, in a folder of its own
        if "torch" in sys.modules:  # what is held was pickled by reference to its module
            sys.modules["torch"].set_num_threads(num_threads)
        _held.append(make())
    except Exception as error:
        _held.append(functools.partial(_refuse, error))


def _refuse(error: Exception, _: Any) -> Any:
    raise error


def _work(key: Any) -> Any:
    return _held[0](key)
