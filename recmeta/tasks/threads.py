"""Work on pieces in threads, without running ahead of who takes the results."""

import concurrent.futures
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")
MOST_THREADS = 4
"""numpy and Arrow work without Python's lock, but each piece in work takes memory."""


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
    """Yield `work(piece)` of each piece, in their order.

    As many pieces are in work, or done and not taken, as there are threads, so that memory does not
    grow with their number. What `work` raises is raised here, when its turn has come.
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
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
