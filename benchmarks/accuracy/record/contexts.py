"""HIRE's split (Fang et al., ICDE 2025): MeLU's states, of a cold user's 32 ratings three known.

Released is a context of 32 users and 32 items, of which a tenth of the columns is shown; here it is
the cold user's own row of it, and what is shown is not scored.
"""

import numpy as np

from benchmarks.accuracy import states
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Problem, lengths, ranks, shuffled, tasks_of
from benchmarks.accuracy.record.top_rated import top_rated
from recmeta.evaluation.predictor import Scores
from recmeta.tasks.arrays import Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks

COLUMNS, NUM_SUPPORT, FEWEST = 32, 3, 13


def problem(log: Log, training: str, seed: int) -> Problem:
    """Return what learners see: all warm rows; see `states.problem`."""
    return states.problem(log, "all", seed, _tasks)


def cold_users(log: Log, seed: int) -> dict[str, Tasks]:
    """Return the cold users' tasks by state; the seed draws 32 of each user's rows."""
    assert log.state is not None
    order = shuffled(log, np.random.default_rng([seed, 2]))
    state = log.state[order]
    return {name: _tasks(log, order[state == name], name) for name in states.COLD_STATES}


def _tasks(log: Log, rows: IntArray, state: str) -> Tasks:
    """Return tasks of the users with enough of these rows: three are support, up to 29 query."""
    rows = rows[lengths(log.user[rows]) >= FEWEST]
    rows = rows[ranks(log.user[rows]) < COLUMNS]
    return tasks_of(log, rows, ranks(log.user[rows]) >= NUM_SUPPORT, state=state)


def metrics(order_N: Scores, query: Ragged) -> dict[str, Float64Array]:
    """Return (B,) the paper's metrics that `cells.rating_metrics` lacks."""
    return top_rated(order_N, query, (5, 7, 10))
