"""Calls that may hang, in a thread of their own: the caller gives up after a time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class StillBusyError(TimeoutError):
    """An earlier call is still running, although its caller has given up."""


class Aside(Generic[P, R]):
    """Calls a function in another thread, never twice at a time.

    A thread cannot be stopped: one that hangs is left alone, further calls are refused at once
    until it comes back, and the process may end without it.
    """

    def __init__(self, function: Callable[P, R], name: str) -> None:
        """
        Args:
            name: of the threads.
        """
        self._function = function
        self._name = name
        self._lock = threading.Lock()
        self._running: Future[R] | None = None

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Begin a call.

        Raises:
            StillBusyError: while an earlier one is running.
        """
        with self._lock:
            if self._running is not None and not self._running.done():
                raise StillBusyError(f"{self._name} is still busy with an earlier call")
            future: Future[R] = Future()
            self._running = future

        def run() -> None:
            try:
                future.set_result(self._function(*args, **kwargs))
            except BaseException as error:  # it is the caller's
                future.set_exception(error)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future
