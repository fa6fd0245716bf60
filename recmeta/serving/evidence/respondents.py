"""People whose answers are known, so that a way of asking can be tried on them.

Legend: B users, N answers of all of them.
"""

import dataclasses

import numpy as np

from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True)
class Respondents:
    """Users with the answers that they would give; they know no other item."""

    users: Tasks
    """The query is what answers should help to predict; the support is empty."""
    answers: Ragged
    """The answers that each would give if asked; never about an item of their query."""

    def __len__(self) -> int:
        return len(self.users)

    def after(self, keep_N: BoolArray) -> Tasks:
        """Return the users with some of their answers as support."""
        return dataclasses.replace(self.users, support=self.answers.select(keep_N))

    def take(self, users: IntArray) -> "Respondents":
        """Return the users at these positions, in this order."""
        return Respondents(self.users.take(users), self.answers.take(users))


def respondents(
    users: Tasks,
    rows: Ragged,
    generator: np.random.Generator,
    *,
    query_share: float = 0.3,
    most_query: int = 20,
) -> tuple[Respondents, IntArray]:
    """Return users with a random part of their rows as query and the rest as possible answers, and
    their positions in `users`.

    Users with fewer than two rows are left out: there would be nothing to ask, or to predict.

    Args:
        users: whose own support and query are not read.
        rows: all rows of each of them.
        query_share: share of a user's rows that is query, at least one row.
        most_query: most rows of a query.
    """
    kept = np.flatnonzero(rows.lengths >= 2)
    users, rows = users.take(kept), rows.take(kept)
    drawn = np.lexsort((generator.random(len(rows.item)), rows.task))
    rank_N = np.empty(len(drawn), np.int64)
    rank_N[drawn] = rows.position
    num_query_B = np.clip((query_share * rows.lengths).astype(np.int64), 1, most_query)
    is_query_N = rank_N < num_query_B[rows.task]
    nothing = rows.select(np.zeros(len(rows.item), np.bool_))
    users = dataclasses.replace(users, support=nothing, query=rows.select(is_query_N))
    return Respondents(users, rows.select(~is_query_N)), kept
