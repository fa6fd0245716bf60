"""Work on pieces in threads, without running ahead of the consumer of the results."""

import concurrent.futures
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")
MOST_THREADS = 4
"""numpy and Arrow release Python's lock, but each piece in progress takes memory."""


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """Yield `work(piece)` for each piece, in order.

    At most as many pieces are in progress, or done and not consumed, as there are threads, so that
    memory does not grow with their number. An exception in `work` is raised here in its turn.
    """
    num_threads = min(MOST_THREADS, num_cores())
    waiting: deque[concurrent.futures.Future[Result]] = deque()
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) == num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
