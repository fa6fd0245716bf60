"""The four states of Lee et al. (MeLU, KDD 2019): users and items are each warm or new.

Learners see warm users with warm items. Cold users have 13 to 100 ratings in a state, of which 10
random ones are query and the others support.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import (
    Development,
    Problem,
    lengths,
    ranks,
    shuffled,
    tasks_of,
    training_tasks,
    value_range,
)
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.task_set import Tasks

COLD_STATES = ("user_cold", "item_cold", "user_and_item_cold")
FEWEST, MOST, NUM_QUERY = 13, 100, 10
DEV_USER_SHARE = 0.1  # the share of the warm users with 13 to 100 warm ratings
DEV_ITEM_SHARE = 0.25  # the share of the warm items: enough that many users have 13 ratings of them
NEW_USER_SHARE = 0.2

Training = Literal["filtered", "all"]


def cold_tasks(log: Log, rows: IntArray, state: str) -> Tasks:
    """Return tasks of the users with 13 to 100 of these rows; their first 10 are query."""
    num_rows = lengths(log.user[rows])
    rows = rows[(num_rows >= FEWEST) & (num_rows <= MOST)]
    return tasks_of(log, rows, ranks(log.user[rows]) < NUM_QUERY, state=state)


def problem(
    log: Log,
    training: str,
    seed: int,
    tasks_as: Callable[[Log, IntArray, str], Tasks] = cold_tasks,
) -> Problem:
    """Return what learners see: warm rows.

    For cold users with warm items the judges are a tenth of the warm users, held out whole. For
    new items a quarter of the warm items is held out as well, and the judges are the warm users'
    ratings of these, in tasks of the same kind as the cold ones.

    Args:
        log: with a state for each row.
        training: `filtered`: users with 13 to 100 warm ratings; `all`: every warm rating.
        seed: draws the judges and their queries.
        tasks_as: makes the judges' tasks as the cold users' are made: (log, rows, state).
    """
    assert log.state is not None
    generator = np.random.default_rng([seed, 1])
    # Cold rows are left out first, so that the code below cannot read them.
    warm = log.select(log.state == "warm")
    order = shuffled(warm, generator)
    num_rows = lengths(warm.user)[order]
    fits = (num_rows >= FEWEST) & (num_rows <= MOST)
    train = order if training == "all" else order[fits]
    candidates = np.unique(warm.user[order[fits]])
    held_users = generator.permutation(candidates)[: round(DEV_USER_SHARE * len(candidates))]
    met = np.unique(warm.item[train])
    held_items = generator.permutation(met)[: round(DEV_ITEM_SHARE * len(met))]
    of_judge = np.isin(warm.user[train], held_users)
    of_new = np.isin(warm.item[train], held_items)
    for_users = Development(
        train=training_tasks(warm, train[~of_judge], NUM_QUERY),
        judges=tasks_as(warm, train[of_judge], "user_cold"),
    )
    for_items = Development(
        train=training_tasks(warm, train[~of_judge & ~of_new], NUM_QUERY),
        judges=tasks_as(warm, train[of_new], "item_cold"),
    )
    return Problem(
        name=log.about["name"],
        objective="rating",
        value_range=value_range(warm, train),
        items=log.items,
        train=training_tasks(warm, train, NUM_QUERY),
        development={
            "user_cold": for_users,
            "item_cold": for_items,
            "user_and_item_cold": for_items,
        },
    )


def cold_users(log: Log, seed: int) -> dict[str, Tasks]:
    """Return the tasks of the final evaluation by state; the seed draws each user's 10 queries."""
    assert log.state is not None
    generator = np.random.default_rng([seed, 2])
    order = shuffled(log, generator)
    state = log.state[order]
    return {name: cold_tasks(log, order[state == name], name) for name in COLD_STATES}


def with_states(log: Log, new_from_year: float) -> Log:
    """Return a log whose rows have a state by a rule of this benchmark, for a data set without
    states.

    A user is new where a stable hash of the id falls into a fifth; a book is new that came out in
    `new_from_year` or later, as in MeLU. One whose year is unknown is warm.
    """
    is_new_user: BoolArray = unit_hash(log.profiles["user_id"].combine_chunks(), 0) < NEW_USER_SHARE
    year = log.items.attributes["year"].to_numpy()
    is_new_item: BoolArray = np.nan_to_num(year, nan=0.0) >= new_from_year
    new_user, new_item = is_new_user[log.user], is_new_item[log.item]
    state = np.select(
        [new_user & new_item, new_user, new_item],
        ["user_and_item_cold", "user_cold", "item_cold"],
        "warm",
    )
    return dataclasses.replace(log, state=state)
