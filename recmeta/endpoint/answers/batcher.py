"""Collects concurrent requests and works on them together, in one thread.

Adapting sixteen users costs little more than adapting one. While a batch is computed, requests
gather, and all of them (up to a limit) are the next batch: at low load nobody waits, at high load
batches grow by themselves. The queue is bounded: more requests are refused, not kept waiting.
"""

import asyncio
import collections
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class OverloadedError(Exception):
    """The queue is full, or the batcher is closing."""


class Batcher(Generic[T, R]):
    """Runs `work` on lists of submitted things, never on two lists at once.

    All methods but `work` itself belong to one event loop.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        wait_seconds: float,
        queue_size: int,
    ) -> None:
        """
        Args:
            work: called in a thread of its own; returns a result for each thing, in order.
            most: things in a list.
            wait_seconds: how long the first waits for others.
            queue_size: things that may wait, apart from those being worked on.
        """
        self._work = work
        self._most = most
        self._wait_seconds = wait_seconds
        self._queue_size = queue_size
        self._waiting: collections.deque[tuple[T, asyncio.Future[R]]] = collections.deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "recmeta-batches")
        self._closing = False
        self._collector = asyncio.get_running_loop().create_task(self._collect())

    @property
    def num_waiting(self) -> int:
        """Things that wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next thing would be refused."""
        return self._closing or len(self._waiting) >= self._queue_size

    async def submit(self, thing: T) -> R:
        """Return the result of one thing.

        Raises:
            OverloadedError: at once, when too many wait already.
        """
        if self.is_full:
            raise OverloadedError
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((thing, result))
        self._arrived.set()
        return await result

    async def close(self) -> None:
        """Finish what waits, refuse the rest."""
        self._closing = True
        self._arrived.set()
        await self._collector
        self._thread.shutdown()

    async def _collect(self) -> None:
        while True:
            await self._arrived.wait()
            if self._wait_seconds and not self._closing and len(self._waiting) < self._most:
                await asyncio.sleep(self._wait_seconds)
            taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            if taken:
                await self._run(taken)
            if not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()

    async def _run(self, taken: list[tuple[T, asyncio.Future[R]]]) -> None:
        """Work on a list; if that fails, on each alone, so that one cannot fail the others."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, self._work, [t for t, _ in taken])
        except Exception as error:
            if len(taken) > 1:
                for one in taken:
                    await self._run([one])
            elif not taken[0][1].done():
                taken[0][1].set_exception(error)
            return
        for (_, future), result in zip(taken, found, strict=True):
            if not future.done():  # done already: its request was cancelled
                future.set_result(result)
