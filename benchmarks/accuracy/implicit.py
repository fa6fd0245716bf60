"""Implicit feedback: which items of the whole catalogue will a new user take next?"""

import numpy as np

from benchmarks.accuracy.arrival import before, first_cold, first_times, halves
from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Development, Problem, lengths, ranks, shuffled, tasks_of
from recmeta.tasks.arrays import BoolArray
from recmeta.tasks.task_set import Tasks

STATE = "user_cold"
COLD_SHARE, DEV_SHARE = 0.2, 0.1
LATE_SHARE = 0.2  # the share of the customers who judge: half of them never come again
NUM_QUERY = 10


def baskets_problem(log: Log, training: str, seed: int) -> Problem:
    """Return what learners see of a shop: all purchases before the first cold customer appears.

    The judges are, among the customers of that time, the fifth who appear last; candidates are
    fitted to the purchases before them. The seed has no effect: time decides.
    """
    seen = before(log, first_cold(log, COLD_SHARE))
    earlier = before(seen, first_cold(seen, LATE_SHARE))
    return _problem(log, halves(seen), halves(earlier), _first_baskets(seen, LATE_SHARE))


def baskets_cold_users(log: Log, seed: int) -> dict[str, Tasks]:
    """Return the customers who appear last: the first basket is support, new products of later
    baskets are query."""
    return {STATE: _first_baskets(log, COLD_SHARE)}


def random_problem(log: Log, training: str, seed: int) -> Problem:
    """Return what learners see without times: all rows of the users who are not cold.

    A tenth of these users, drawn by the seed, are the judges.
    """
    is_cold_U, is_judge_U = _drawn(log, seed)
    warm = log.select(~is_cold_U[log.user])
    generator = np.random.default_rng([seed, 1])
    judges = _random_queries(warm.select(is_judge_U[warm.user]), generator)
    others = warm.select(~is_judge_U[warm.user])
    return _problem(log, halves(warm), halves(others), judges)


def random_cold_users(log: Log, seed: int) -> dict[str, Tasks]:
    """Return a fifth of the users: 10 random rows are query, all others support."""
    is_cold_U, _ = _drawn(log, seed)
    generator = np.random.default_rng([seed, 2])
    return {STATE: _random_queries(log.select(is_cold_U[log.user]), generator)}


def _problem(log: Log, train: Tasks, earlier: Tasks, judges: Tasks) -> Problem:
    return Problem(
        name=log.about["name"],
        objective="implicit",
        value_range=(1.0, 1.0),
        items=log.items,
        train=train,
        development={STATE: Development(train=earlier, judges=judges)},
    )


def _drawn(log: Log, seed: int) -> tuple[BoolArray, BoolArray]:
    """Return (U,) which users are cold, and which are judges."""
    place_U = np.random.default_rng([seed, 0]).permutation(log.num_users) / log.num_users
    judges_until = COLD_SHARE + DEV_SHARE * (1 - COLD_SHARE)
    return place_U < COLD_SHARE, (place_U >= COLD_SHARE) & (place_U < judges_until)


def _random_queries(log: Log, generator: np.random.Generator) -> Tasks:
    order = shuffled(log, generator)
    order = order[lengths(log.user)[order] > NUM_QUERY]
    return tasks_of(log, order, ranks(log.user[order]) < NUM_QUERY, state=STATE)


def _first_baskets(log: Log, share: float) -> Tasks:
    """Return tasks of the customers who appear last and came again for something new."""
    assert log.basket is not None
    is_late_U = first_times(log) >= first_cold(log, share)
    place = ranks(log.user)
    first_basket_U = np.full(log.num_users, -1)
    first_basket_U[log.user[place == 0]] = log.basket[place == 0]
    is_query = log.basket != first_basket_U[log.user]
    came_again_U = np.bincount(log.user, is_query, minlength=log.num_users) > 0
    rows = np.flatnonzero((is_late_U & came_again_U)[log.user])
    return tasks_of(log, rows, is_query[rows], state=STATE)
