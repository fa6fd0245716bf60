"""How often each key may send requests: token buckets."""

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
        self.detail = f"this key may send {per_second:g} requests a second."
        """The message to a client that sends more."""
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def seconds_to_wait(self, name: str, number: int = 1) -> float:
        """Take tokens and return 0, or return the seconds until there are enough.

        Args:
            number: of tokens; if it is more than a bucket holds, a full bucket.
        """
        needed = min(float(number), self._burst)
        now = self._clock()
        tokens, since = self._buckets.get(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_second)
        if tokens >= needed:
            self._buckets[name] = (tokens - needed, now)
            return 0.0
        self._buckets[name] = (tokens, now)
        return (needed - tokens) / self._per_second
