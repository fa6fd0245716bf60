"""Strategies: how much it is worth to ask about each item now, given the answers so far.

Legend: B users, C candidates, Q questions.
"""

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import BoolArray, Float64Array, IntArray
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The items that may be asked about."""

    item_C: IntArray
    """Item numbers, those that most training users rated first."""
    share_C: Float64Array
    """Share of the training users who rated each."""

    @classmethod
    def most_rated(cls, train: Tasks, num_items: int, most: int) -> "Candidates":
        """Return the items that most training users rated, at most `most` of them.

        Args:
            train: training users; their rows of support and query count.
            num_items: of the catalogue.
        """
        item = np.concatenate([train.support.item, train.query.item])
        count_I = np.bincount(item, minlength=num_items)
        item_C = np.argsort(-count_I, kind="stable")[:most]
        item_C = item_C[count_I[item_C] > 0]
        return cls(item_C.astype(np.int64), count_I[item_C] / max(len(train), 1))

    def __len__(self) -> int:
        return len(self.item_C)

    def places(self, item_N: npt.NDArray[np.integer]) -> IntArray:
        """Return (N,) the place of each item among the candidates, -1 where it is none."""
        order = np.argsort(self.item_C)
        found = np.minimum(np.searchsorted(self.item_C, item_N, sorter=order), len(order) - 1)
        place_N = order[found]
        return np.where(self.item_C[place_N] == item_N, place_N, -1)

    def marked(self, rows: Ragged) -> BoolArray:
        """Return (B, C) whether a candidate is among each user's rows."""
        mark_BC = np.zeros((len(rows), len(self)), np.bool_)
        place_N = self.places(rows.item)
        mark_BC[rows.task[place_N >= 0], place_N[place_N >= 0]] = True
        return mark_BC


@dataclasses.dataclass(frozen=True)
class SoFar:
    """The answers of B users so far."""

    users: Tasks
    """Their support holds the answers."""
    known_BC: BoolArray
    """Candidates that they know, and have answered."""
    unknown_BC: BoolArray
    """Candidates that they were asked about and do not know."""

    @classmethod
    def of(cls, candidates: Candidates, users: Tasks, unknown: Ragged | None = None) -> "SoFar":
        """Return what users have said.

        Args:
            users: with their answers as support.
            unknown: per user, items that they said they do not know; values are not read.
        """
        known_BC = candidates.marked(users.support)
        if unknown is None:
            return cls(users, known_BC, np.zeros_like(known_BC))
        return cls(users, known_BC, candidates.marked(unknown) & ~known_BC)


class Strategy(Protocol):
    """Says what is worth asking. It is pure: equal answers give equal questions, whoever else is
    in the batch."""

    @property
    def name(self) -> str:
        """The name it goes by in reports, such as `information-gain`."""
        ...

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return (B, C), or (1, C) where all users are asked the same: higher is asked first."""
        ...


@dataclasses.dataclass(frozen=True)
class FixedOrder:
    """Asks everybody the same, whatever they answer."""

    name: str
    worth_C: Float64Array
    """-inf for a candidate that is never asked."""

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return the worth, the same for all."""
        return self.worth_C[None]


def next_questions(
    strategy: Strategy,
    candidates: Candidates,
    users: Tasks,
    unknown: Ragged | None = None,
    count: int = 1,
) -> IntArray:
    """Return the numbers (B, count) of the items to ask each user next, the best first.

    Nobody is asked about an item that is in their support or that they do not know. Where fewer
    candidates are left, the places at the end hold -1. Several questions at once are the best ones
    of now: asking one by one lets a strategy learn from each answer.

    Args:
        users: with their answers so far as support.
        unknown: per user, items that they said they do not know.
    """
    so_far = SoFar.of(candidates, users, unknown)
    place_BQ, worth_BQ = best_places(strategy, so_far, min(count, len(candidates)))
    item_BQ = np.where(worth_BQ > -np.inf, candidates.item_C[place_BQ], -1)
    missing = count - item_BQ.shape[1]
    return np.pad(item_BQ, ((0, 0), (0, missing)), constant_values=-1)


def best_places(strategy: Strategy, so_far: SoFar, count: int) -> tuple[IntArray, Float64Array]:
    """Return places among the candidates (B, count) and their worth, -inf where there is none."""
    asked_BC = so_far.known_BC | so_far.unknown_BC
    worth_BC = np.where(asked_BC, -np.inf, strategy.worth(so_far))
    if count == 1:  # as sorting would, in a fraction of the time
        place_BQ = worth_BC.argmax(1)[:, None]
    else:
        place_BQ = np.argsort(-worth_BC, axis=1, kind="stable")[:, :count]
    return place_BQ, np.take_along_axis(worth_BC, place_BQ, axis=1)
