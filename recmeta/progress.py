"""How long steps report their progress, without knowing who listens."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (what is going on, units done, units in all)."""


def silent(what: str, done: int, total: int) -> None:
    """Report to nobody."""
