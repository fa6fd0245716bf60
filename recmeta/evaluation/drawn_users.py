"""The users of a large task set from whom an evaluation draws some, evenly.

A 95 % interval over 20,000 users reaches 0.014 of a metric's standard deviation to either side, and
baselines of counts or of item vectors are fitted to many millions of rows even so. What an
evaluation takes, in time and in memory, is therefore bounded, however large the log is.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from recmeta.tasks.task_set import Tasks

MOST_ROWS = 2**24
"""The most rows of training users to which a baseline is fitted."""
MOST_JUDGES = 10_000
"""The most development users who choose among a baseline's candidates."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Some users of a split."""

    tasks: Tasks
    kind: str
    """What they are, in the plural."""
    num_all: int
    """The number of users from whom they were drawn."""

    @classmethod
    def at_most(cls, tasks: Tasks, kind: str, most: int, seed: int) -> "Drawn":
        """Return all users if there are no more than `most`, otherwise as many, in their order."""
        num_all = len(tasks)
        if num_all > most:
            users = np.random.default_rng(seed).choice(num_all, most, replace=False)
            tasks = tasks.take(np.sort(users))
        return cls(tasks, kind, num_all)

    @classmethod
    def with_rows(cls, tasks: Tasks, kind: str, most_rows: int, seed: int) -> "Drawn":
        """Return all users if they have no more than `most_rows` rows, otherwise as many as have
        about this number."""
        num_rows = len(tasks.support.item) + len(tasks.query.item)
        most = len(tasks) if num_rows <= most_rows else len(tasks) * most_rows // num_rows
        return cls.at_most(tasks, kind, max(most, 1), seed)


def what_was_drawn(parts: Sequence[Drawn]) -> str | None:
    """Return the sentence that says of whom only some were drawn; None if of nobody."""
    some = [
        f"{len(part.tasks):,} of {part.num_all:,} {part.kind}"
        for part in parts
        if len(part.tasks) < part.num_all
    ]
    return (
        f"The log is large, so that users were drawn evenly: {', '.join(some)}." if some else None
    )
