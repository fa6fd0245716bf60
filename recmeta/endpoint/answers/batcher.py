"""Collects concurrent requests and works on them together, in one thread.

Adapting sixteen users costs little more than adapting one. While a batch is computed, requests
gather, and all of them (up to a limit) are the next batch: at low load nobody waits, at high load
batches grow by themselves. A batch also waits, for a moment, for requests that have arrived but are
still checked: under load they would otherwise come one by one, each to a batch of its own, and take
twice the time together. How many may come at all is not decided here: see `guard.admission`.
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
        num_in_hand: Callable[[], int],
    ) -> None:
        """
        Args:
            work: called in a thread of its own; returns a result for each thing, in order.
            most: things in a list.
            wait_seconds: how long the first waits at most for others that are on their way here.
            num_in_hand: how many things there are, with those on their way; called in any thread.
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

    def _take(self) -> list[tuple["asyncio.Future[R]", T]]:
        """Wait for things, and return the next list; an empty one at the end."""
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
        """Return whether a list is full, or nothing that could join it is on its way."""
        if self._closing or len(self._waiting) >= self._most:
            return True
        return self._num_in_hand() <= self._num_submitted

    def _run(self, taken: Sequence[tuple["asyncio.Future[R]", T]]) -> "list[_Done[R]]":
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
