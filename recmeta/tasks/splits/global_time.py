"""A split that holds out users and time: the users who come last are cold, and no model learns from
later rows.

There are two cuts among all users with enough rows for a task:

    dev cut     users whose first row is at or after it, and before the test cut, are development
                users; rows of the users before them count as training up to it
    test cut    users whose first row is at or after it are cold; rows of development users count up
                to it

A user with rows on both sides of a cut keeps those before it. The later ones are withheld: they are
in the items' past, which a cold user's task reads at its own cut time, as in production. So a
development user is judged as a cold user is, by a model that saw nothing later. Once the
development users have chosen, a model may learn from everything before the test cut
(`placed_for_refit`).

Legend: U users, E users with enough rows, in the order of their first rows.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from recmeta import schema
from recmeta.errors import UserError
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.placing.placed_rows import PLACES
from recmeta.tasks.placing.placement import (
    COLD,
    DEV,
    TRAIN,
    Placement,
    Rows,
    first_of_each_pair,
    is_of_length,
)
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.threads import in_threads

FEWEST = 0.5
"""The smallest part of the configured share that a cut must hold out."""


def placed_by_time(placement: Placement, parts: Iterable[Rows]) -> Placement:
    """Return the placement with users placed by the times of their first rows, and with the times
    from which rows are withheld.

    Args:
        parts: the rows of all users, some users at a time.

    Raises:
        UserError: if too few users come after any cut.
    """
    config = placement.config
    first_U, is_enough_U = _arrivals(len(placement.place), parts, config)
    if not is_enough_U.any():
        return placement  # there is then no task, whatever the split
    first_E = np.sort(first_U[is_enough_U])
    num_users, end = len(first_E), schema.END_OF_TIME
    test_cut = _cut(first_E, num_users, "test_share", config.test_share, end)
    warm_E = first_E[first_E < test_cut]
    dev_cut = _cut(warm_E, num_users, "dev_share", config.dev_share, test_cut)
    until = np.full(len(PLACES), schema.END_OF_TIME)
    until[[TRAIN, DEV]] = dev_cut, test_cut
    place_U = np.select([first_U >= test_cut, first_U >= dev_cut], [COLD, DEV], TRAIN)
    return dataclasses.replace(placement, place=place_U.astype(np.uint8), until=until)


def placed_for_refit(placement: Placement) -> Placement:
    """Return the placement by time for the final model: the development users also train, and all
    users' rows count up to the test cut."""
    assert placement.until is not None, "placed by time"
    until = placement.until.copy()
    until[TRAIN] = until[DEV]
    place_U = np.where(placement.place == DEV, TRAIN, placement.place)
    return dataclasses.replace(placement, place=place_U.astype(np.uint8), until=until)


def _arrivals(
    num_users: int, parts: Iterable[Rows], config: SplitConfig
) -> tuple[IntArray, BoolArray]:
    """Return (U,) the time of each user's first row, and whether the user has neither too few nor
    too many rows."""
    first_U = np.full(num_users, schema.END_OF_TIME)
    num_rows_U = np.zeros(num_users, np.int64)
    for rows, _ in in_threads(first_of_each_pair, parts):
        np.minimum.at(first_U, rows["user"], rows["time"])
        num_rows_U += np.bincount(rows["user"], minlength=num_users)
    return first_U, is_of_length(num_rows_U, config)


def _cut(first_E: IntArray, num_users: int, name: str, share: float, otherwise: int) -> int:
    """Return the time from which users are held out, about a share of all, so that some users are
    left.

    Args:
        first_E: the times of the first rows of the users who can still be held out, ascending.
        num_users: the number of all users with enough rows.
        name: the name of the share, for messages.
        otherwise: the result if the share is 0.

    Raises:
        UserError: if too few users come after any time.
    """
    if share == 0:
        return otherwise
    wanted = max(1, round(share * num_users))
    starts = np.unique(first_E)[1:]  # no user comes before the first
    later = len(first_E) - np.searchsorted(first_E, starts)
    best = np.argmin(np.abs(later - wanted)) if len(starts) else None
    found = 0 if best is None else int(later[best])
    if best is None or found < FEWEST * wanted:
        raise UserError(
            f"split = 'global-time' holds out users who come after others: {name} = {share} asks "
            f"for {wanted:,} of {num_users:,} users, and {found:,} come so late. Lower {name}, or "
            "choose split = 'temporal', which holds out users and no time."
        )
    return int(starts[best])
