"""Of a large task set, some users stand for all, and the report says so."""

import numpy as np
import pyarrow as pa

from recmeta.evaluation.drawn_users import Drawn, what_was_drawn
from recmeta.tasks.task_set import Ragged, Tasks


def of_users(num_users: int) -> Tasks:
    """Return users of whom each has two rows of support and one of query."""
    return Tasks(
        pa.table({"user_id": [f"u{n}" for n in range(num_users)]}),
        np.arange(num_users),
        np.zeros(num_users, np.int32),
        np.array(["warm"] * num_users),
        Ragged.from_lists([[n, n] for n in range(num_users)], [[1.0, 2.0]] * num_users),
        Ragged.from_lists([[n] for n in range(num_users)], [[3.0]] * num_users),
    )


def test_few_users_are_all_taken() -> None:
    tasks = of_users(9)
    parts = [Drawn.at_most(tasks, "users", 9, 0), Drawn.with_rows(tasks, "users", 27, 0)]
    assert all(part.tasks is tasks for part in parts)
    assert what_was_drawn(parts) is None


def test_of_many_users_some_are_drawn_in_their_order() -> None:
    tasks = of_users(1000)
    some = Drawn.at_most(tasks, "cold users", 100, 0)
    by_rows = Drawn.with_rows(tasks, "training users", 600, 0)
    for part, num_users in ((some, 100), (by_rows, 200)):
        place = part.tasks.cut_time
        assert len(np.unique(place)) == len(place) == num_users
        assert (np.diff(place) > 0).all()
        assert 400 < place.mean() < 600
        np.testing.assert_array_equal(part.tasks.query.item, place)
    again = Drawn.at_most(tasks, "cold users", 100, 0)
    np.testing.assert_array_equal(again.tasks.cut_time, some.tasks.cut_time)
    assert what_was_drawn([some, Drawn.at_most(tasks, "judges", 1000, 0), by_rows]) == (
        "The log is large, so that users were drawn evenly: 100 of 1,000 cold users, 200 of 1,000 "
        "training users."
    )
