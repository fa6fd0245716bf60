"""Collects concurrent requests and works on them together, in one thread.

Adapting to sixteen users costs little more than adapting to one. While a batch is computed, further
requests gather, and all of them (up to a limit) become the next batch: at low load nobody waits,
and at high load batches grow by themselves. A batch also waits for a moment for requests that have
arrived but are still being checked. Under load, each of them would otherwise get a batch of its
own, and together they would take twice the time. `guard.admission` decides how many requests are
accepted.
"""

import asyncio
import collections
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class ClosingError(Exception):
    """The batcher is closing."""


class Batcher(Generic[T, R]):
    """Runs `work` on lists of submitted requests, never on two lists at once.

    All methods but `work` itself belong to one event loop.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        wait_seconds: float,
        num_in_hand: Callable[[], int],
    ) -> None:
        """
        Args:
            work: called in a thread of its own; returns a result for each request, in order.
            most: the most requests in a list.
            wait_seconds: the longest that the first request waits for others that are on their way.
            num_in_hand: returns the number of requests, including those on their way; called in any
                thread.
        """
        self._work = work
        self._most = most
        self._wait_seconds = wait_seconds
        self._num_in_hand = num_in_hand
        self._num_submitted = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[tuple[asyncio.Future[R], T]] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = asyncio.Event()
        # A daemon: the process must be able to end while it hangs.
        threading.Thread(target=self._collect, name="recmeta-batches", daemon=True).start()

    @property
    def num_waiting(self) -> int:
        """The number of waiting requests."""
        return len(self._waiting)

    async def submit(self, thing: T) -> R:
        """Return the result of one request.

        Raises:
            ClosingError: from `close` on.
        """
        if self._closing:
            raise ClosingError
        result: asyncio.Future[R] = self._loop.create_future()
        entry = result, thing
        self._num_submitted += 1
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify()
        try:
            return await result
        finally:
            self._num_submitted -= 1
            if result.cancelled():  # given up: it must not wait until a list that hangs has ended
                with self._changed, contextlib.suppress(ValueError):
                    self._waiting.remove(entry)

    async def close(self, seconds: float) -> bool:
        """Finish the requests that wait, and refuse new ones.

        Args:
            seconds: to wait for that.

        Returns:
            Whether all were finished by then.
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
        """Work on list after list. This is the thread's function."""
        while self._work_on_next():
            pass  # nothing of the last list is held while the next one is waited for
        self._tell(self._closed.set)

    def _work_on_next(self) -> bool:
        """Wait for a list and work on it; return whether there was one."""
        taken = self._take()
        if not taken:
            return False
        self._tell(_settle, self._run(taken))
        return True

    def _take(self) -> list[tuple["asyncio.Future[R]", T]]:
        """Wait for requests, and return the next list; an empty one at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(self._is_enough, self._wait_seconds)
                num = min(self._most, len(self._waiting))
                taken = [self._waiting.popleft() for _ in range(num)]
                wanted = [one for one in taken if not one[0].done()]  # done: given up
                if wanted or (self._closing and not self._waiting):
                    return wanted

    def _is_enough(self) -> bool:
        """Return whether a list is full, or no request that could join it is on its way."""
        if self._closing or len(self._waiting) >= self._most:
            return True
        return self._num_in_hand() <= self._num_submitted

    def _run(self, taken: Sequence[tuple["asyncio.Future[R]", T]]) -> "list[_Done[R]]":
        """Work on a list; if that fails, work on each request alone, so that one cannot make the
        others fail."""
        try:
            found = self._work([thing for _, thing in taken])
        except Exception as error:
            if len(taken) == 1:
                return [(taken[0][0], error)]
            return [one for alone in taken for one in self._run([alone])]
        return [(future, result) for (future, _), result in zip(taken, found, strict=True)]

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return


_Done = tuple["asyncio.Future[R]", R | Exception]


def _settle(done: "Sequence[_Done[R]]") -> None:
    """Hand the results to those who wait for them, in the event loop."""
    for future, found in done:
        if future.done():  # its request was given up
            continue
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)
