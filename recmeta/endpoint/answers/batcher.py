"""Collects concurrent requests and works on them together, in one thread.

Adapting sixteen users costs little more than adapting one. While a batch is computed, requests
gather, and all of them (up to a limit) are the next batch: at low load nobody waits, at high load
batches grow by themselves. How many may wait is not decided here: see `guard.admission`.
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
    """Runs `work` on lists of submitted things, never on two lists at once.

    All methods but `work` itself belong to one event loop.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R]],
        *,
        most: int,
        wait_seconds: float,
    ) -> None:
        """
        Args:
            work: called in a thread of its own; returns a result for each thing, in order.
            most: things in a list.
            wait_seconds: how long the first waits for others.
        """
        self._work = work
        self._most = most
        self._wait_seconds = wait_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[_Waiting[T, R]] = collections.deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = asyncio.Event()
        # A daemon: the process must be able to end while it hangs.
        threading.Thread(target=self._collect, name="recmeta-batches", daemon=True).start()

    @property
    def num_waiting(self) -> int:
        """Things that wait."""
        return len(self._waiting)

    async def submit(self, thing: T) -> R:
        """Return the result of one thing.

        Raises:
            ClosingError: from `close` on.
        """
        if self._closing:
            raise ClosingError
        result: asyncio.Future[R] = self._loop.create_future()
        entry = result, thing
        with self._changed:
            self._waiting.append(entry)
            self._changed.notify()
        try:
            return await result
        finally:
            if result.cancelled():  # given up: it must not wait until a list that hangs has ended
                with self._changed, contextlib.suppress(ValueError):
                    self._waiting.remove(entry)

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
        self._tell(_settle, self._run(taken))
        return True

    def _take(self) -> "list[_Waiting[T, R]]":
        """Wait for things, and return the next list; an empty one at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._wait_seconds and not self._closing:
                    enough = lambda: len(self._waiting) >= self._most or self._closing  # noqa: E731
                    self._changed.wait_for(enough, self._wait_seconds)
                num = min(self._most, len(self._waiting))
                taken = [self._waiting.popleft() for _ in range(num)]
                wanted = [one for one in taken if not one[0].done()]  # done: given up
                if wanted or (self._closing and not self._waiting):
                    return wanted

    def _run(self, taken: "Sequence[_Waiting[T, R]]") -> "list[_Done[R]]":
        """Work on a list; if that fails, on each alone, so that one cannot fail the others."""
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


_Waiting = tuple["asyncio.Future[R]", T]
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
