"""Small tasks for the tests of this folder."""

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from recmeta.tasks.task_set import (
    Objective,
    Ragged,
    Tasks,
    TaskSetSpec,
)


def make_tasks(support: list[dict[int, float]], query: list[dict[int, float]]) -> Tasks:
    """Build tasks from `{item: value}` per user."""

    def side(rows: list[dict[int, float]]) -> Ragged:
        return Ragged.from_lists([list(r) for r in rows], [list(r.values()) for r in rows])

    num_tasks = len(query)
    return Tasks(
        pa.table({"user_id": [f"u{i}" for i in range(num_tasks)]}),
        np.zeros(num_tasks, np.int64),
        np.zeros(num_tasks, np.int32),
        np.array(["user_cold"] * num_tasks, np.str_),
        side(support),
        side(query),
    )


def make_spec(
    num_items: int,
    objective: Objective = "rating",
    value_range: tuple[float, float] = (1.0, 5.0),
) -> TaskSetSpec:
    """Build the part of a specification that the evaluation reads."""
    return TaskSetSpec(
        objective=objective,
        value_range=value_range,
        num_items=num_items,
        num_tasks={},
        num_shards={},
        num_interactions=0,
        temporal=True,
    )


def low_rank_tasks(
    num_tasks: int, num_items: int, num_rows: int, num_support: int, seed: int
) -> Tasks:
    """Draw ratings 1-5 of a mean, biases and two factors, with noise of half a star.

    The items are the same for every seed; the users are not.
    """
    world = np.random.default_rng(12345)
    item_bias, item_factor = world.normal(0, 0.5, num_items), world.normal(size=(num_items, 2))
    rng = np.random.default_rng(seed)
    user_bias, user_factor = rng.normal(0, 0.4, num_tasks), rng.normal(size=(num_tasks, 2)) * 0.7
    item = np.argsort(rng.random((num_tasks, num_items)), axis=1)[:, :num_rows]
    mean = 3.0 + user_bias[:, None] + item_bias[item]
    mean += np.einsum("uf,unf->un", user_factor, item_factor[item])
    value = np.clip(np.round(mean + rng.normal(0, 0.5, mean.shape)), 1, 5)
    lines = [
        dict(zip(i, v, strict=True)) for i, v in zip(item.tolist(), value.tolist(), strict=True)
    ]
    return make_tasks(
        [dict(list(line.items())[:num_support]) for line in lines],
        [dict(list(line.items())[num_support:]) for line in lines],
    )


NUM_ITEMS = 8


@st.composite
def tasks_strategy(draw: st.DrawFn) -> Tasks:
    """Draw up to five users over eight items, some without support or query."""
    num_tasks = draw(st.integers(1, 5))
    side = st.dictionaries(
        st.integers(0, NUM_ITEMS - 1), st.sampled_from([1.0, 2.0, 3.5, 4.0, 5.0]), max_size=5
    )
    rows = st.lists(side, min_size=num_tasks, max_size=num_tasks)
    return make_tasks(draw(rows), draw(rows))
