"""How many requests for an answer the server has in hand at a time.

The number is such that the last of them is answered within a stated time. By Little's law (J. D. C.
Little, Operations Research, 1961) a request waits as long as the server takes for each request in
hand, times their number. The first of the two is measured: the time from a request's arrival to its
answer, divided by the number in hand when it came, which holds whatever takes the time: reading,
checking, computing, writing, or other processes on the same machine.
"""

MEMORY = 0.02
"""The weight of the newest answer in the estimate of how long an answer takes."""


class Admission:
    """Counts requests in hand, and decides whether one more is taken. It belongs to one event
    loop."""

    def __init__(self, *, fewest: int, most: int, longest_seconds: float) -> None:
        """
        Args:
            fewest: requests that are always taken, however long they take.
            most: the most requests that are in hand in total.
            longest_seconds: the longest that an answer may be expected to take, beyond the fewest.
        """
        self._fewest = min(fewest, most)
        self._most = most
        self._longest_seconds = longest_seconds
        self._seconds_each = 0.0
        self.num_in_hand = 0

    @property
    def expected_seconds(self) -> float:
        """How long the answer to a request that arrived now would take."""
        return (self.num_in_hand + 1) * self._seconds_each

    def take(self) -> int | None:
        """Take a request, and return its place; None if it is to be refused.

        Whoever takes one gives the place back with `done`.
        """
        number = self.num_in_hand
        if number >= self._most:
            return None
        if number >= self._fewest and self.expected_seconds > self._longest_seconds:
            return None
        self.num_in_hand += 1
        return self.num_in_hand

    def take_more(self, number: int) -> bool:
        """Take this many more places, if they are free, for a request that has one and asks for
        several users."""
        needed = self.num_in_hand + number
        if needed > self._most:
            return False
        if needed > self._fewest and needed * self._seconds_each > self._longest_seconds:
            return False
        self.num_in_hand = needed
        return True

    def done(self, place: int, seconds: float | None, more: int = 0) -> None:
        """Note that a request has left.

        Args:
            place: of `take`.
            seconds: how long it took; None if it was not answered, so that its time says nothing.
            more: the places of `take_more`.
        """
        self.num_in_hand -= 1 + more
        if seconds is not None:
            each = seconds / (place + more)
            known = self._seconds_each or each
            self._seconds_each = known + MEMORY * (each - known)
