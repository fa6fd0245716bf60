"""Collects concurrent requests and works on them together, in one thread.

Adapting sixteen users costs little more than adapting one. While a batch is computed, requests
gather, and all of them (up to a limit) are the next batch: at low load nobody waits, at high load
batches grow by themselves.

Who would have to wait too long is refused at once. How long that is, the batches before tell: the
batch at work takes as long as those did, and so does each that fits into the queue before the
newcomer. The next batch is always open, so that a slow model answers, too.
"""

import asyncio
import collections
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MEMORY = 0.2
"""The newest batch's share in how long a batch is said to take."""


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
        longest_wait_seconds: float,
    ) -> None:
        """
        Args:
            work: called in a thread of its own; returns a result for each thing, in order.
            most: things in a list.
            wait_seconds: how long the first waits for others.
            queue_size: things that may wait, apart from those being worked on.
            longest_wait_seconds: how long a thing may have to wait, beyond the next list.
        """
        self._work = work
        self._most = most
        self._wait_seconds = wait_seconds
        self._queue_size = queue_size
        self._longest_wait_seconds = longest_wait_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[tuple[T, asyncio.Future[R]]] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = asyncio.Event()
        self._batch_seconds = 0.0
        self._began: float | None = None
        # A daemon: the process must be able to end while it hangs.
        threading.Thread(target=self._collect, name="recmeta-batches", daemon=True).start()

    @property
    def num_waiting(self) -> int:
        """Things that wait."""
        return len(self._waiting)

    @property
    def expected_wait_seconds(self) -> float:
        """How long the next thing would wait until a list with it begins."""
        began = self._began
        rest = 0.0 if began is None else self._batch_seconds - (time.monotonic() - began)
        return max(rest, 0.0) + len(self._waiting) // self._most * self._batch_seconds

    @property
    def is_full(self) -> bool:
        """Whether the next thing would be refused."""
        num = len(self._waiting)
        if self._closing or num >= self._queue_size:
            return True
        return num >= self._most and self.expected_wait_seconds > self._longest_wait_seconds

    async def submit(self, thing: T) -> R:
        """Return the result of one thing.

        Raises:
            OverloadedError: at once, when it would have to wait too long.
        """
        if self.is_full:
            raise OverloadedError
        result: asyncio.Future[R] = self._loop.create_future()
        with self._changed:
            self._waiting.append((thing, result))
            self._changed.notify()
        return await result

    async def close(self, seconds: float) -> bool:
        """Finish what waits, refuse the rest.

        Args:
            seconds: to wait for that.

        Returns:
            Whether it was done by then.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True

    def _collect(self) -> None:
        """Work on list after list; the thread."""
        while self._work_on_next():
            pass  # nothing of the last list is held while the next one is waited for
        self._tell(self._closed.set)

    def _work_on_next(self) -> bool:
        """Wait for a list and work on it; return whether there was one."""
        taken = self._take()
        if not taken:
            return False
        self._began = started = time.monotonic()
        done = self._run(taken)
        seconds = time.monotonic() - started
        known = self._batch_seconds or seconds
        self._batch_seconds = known + MEMORY * (seconds - known)
        self._began = None
        self._tell(_settle, done)
        return True

    def _take(self) -> list[tuple[T, "asyncio.Future[R]"]]:
        """Wait for things, and return the next list; an empty one at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._wait_seconds and not self._closing:
                    enough = lambda: len(self._waiting) >= self._most or self._closing  # noqa: E731
                    self._changed.wait_for(enough, self._wait_seconds)
                num = min(self._most, len(self._waiting))
                taken = [self._waiting.popleft() for _ in range(num)]
                wanted = [one for one in taken if not one[1].done()]  # done: given up
                if wanted or (self._closing and not self._waiting):
                    return wanted

    def _run(self, taken: Sequence[tuple[T, "asyncio.Future[R]"]]) -> "list[_Done[R]]":
        """Work on a list; if that fails, on each alone, so that one cannot fail the others."""
        try:
            found = self._work([thing for thing, _ in taken])
        except Exception as error:
            if len(taken) == 1:
                return [(taken[0][1], error)]
            return [one for alone in taken for one in self._run([alone])]
        return [(future, result) for (_, future), result in zip(taken, found, strict=True)]

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return


_Done = tuple["asyncio.Future[R]", R | Exception]


def _settle(done: "Sequence[_Done[R]]") -> None:
    """Give everybody what was found for them; the event loop's part."""
    for future, found in done:
        if future.done():  # its request was given up
            continue
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)
