"""How often each key may ask: token buckets."""

import time
from collections.abc import Callable


class RateLimit:
    """A bucket per name that fills at a steady rate; a request takes one token out."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Args:
            per_second: tokens that come in.
            burst: tokens that a full bucket holds.
            clock: seconds, never going back.
        """
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def seconds_to_wait(self, name: str) -> float:
        """Take a token and return 0, or return how long until there is one."""
        now = self._clock()
        tokens, since = self._buckets.get(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_second)
        if tokens >= 1:
            self._buckets[name] = (tokens - 1, now)
            return 0.0
        self._buckets[name] = (tokens, now)
        return (1 - tokens) / self._per_second
