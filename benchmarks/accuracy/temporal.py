"""Protocols in time order: users who appear late are cold, and no learner sees later rows.

The fifth of the users who appear last are cold. Learners see the rows before the first of them
appears. A cold user's first rows, in the user's own order, are shown k at a time; the rows after
the 20th are query, the same for every k.
"""

import numpy as np

from benchmarks.accuracy.arrival import before, first_cold, first_times, halves
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import (
    Development,
    Problem,
    lengths,
    ranks,
    tasks_of,
    value_range,
)
from recmeta.tasks.task_set import Tasks

SHOTS = (0, 1, 2, 3, 5, 10, 20)
FEWEST_QUERY, MOST_QUERY = 10, 20
COLD_SHARE, DEV_SHARE = 0.2, 0.1


def problem(log: Log, training: str, seed: int) -> Problem:
    """Return what learners see: the rows before the first cold user appears.

    The judges are, among the users of that time, the tenth who appear last; candidates are fitted
    to the rows before them. They judge at all numbers of shots at once, so that one choice serves
    the whole curve.

    Args:
        log: with times.
        training: there is one, `all`.
        seed: has no effect, because time decides.
    """
    seen = before(log, first_cold(log, COLD_SHARE))
    earlier = before(seen, first_cold(seen, DEV_SHARE))
    judges = _late(seen, DEV_SHARE)
    development = Development(
        train=halves(earlier),
        judges=Tasks.joined([judges.with_shots(shots) for shots in SHOTS]),
    )
    return Problem(
        name=log.about["name"],
        objective="rating",
        value_range=value_range(seen, np.arange(len(seen.user))),
        items=log.items,
        train=halves(seen),
        development={f"shots={shots}": development for shots in SHOTS},
    )


def cold_users(log: Log, seed: int) -> dict[str, Tasks]:
    """Return the same cold users at each number of shots."""
    tasks = _late(log, COLD_SHARE)
    return {f"shots={shots}": tasks.with_shots(shots) for shots in SHOTS}


def _late(log: Log, share: float) -> Tasks:
    """Return tasks of the users who appear last: 20 support rows, then 10 to 20 query rows."""
    is_late = first_times(log) >= first_cold(log, share)
    place = ranks(log.user)
    enough = lengths(log.user) >= max(SHOTS) + FEWEST_QUERY
    keep = is_late[log.user] & enough & (place < max(SHOTS) + MOST_QUERY)
    rows = np.flatnonzero(keep)
    return tasks_of(log, rows, place[rows] >= max(SHOTS), state="user_cold")
