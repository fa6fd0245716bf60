"""A log to be split, out of a frame, and a whole split in one frame, for looking at."""

import numpy as np
import polars as pl
from pyarrow import dataset

from recmeta import schema
from recmeta.tasks.placing.placed_rows import NO_TIME, PLACES, PlacedRows
from recmeta.tasks.placing.split_rows import SplitRows


def log_dataset(log: pl.DataFrame) -> dataset.Dataset:
    """Return the rows as the dataset that a Delta table gives, items and events encoded."""
    table = log.to_arrow(compat_level=pl.CompatLevel.oldest())
    for name in (schema.ITEM_ID, schema.EVENT):
        position = table.column_names.index(name)
        table = table.set_column(position, name, table[name].dictionary_encode())
    return dataset.dataset(table)


def rows_of(split: SplitRows) -> pl.DataFrame:
    """Return all rows of all tasks, sorted by split, state, user and position in the task.

    Returns:
        `user`, `item` (numbers), `value`, `timestamp` (µs, null without times), `split`, `state`,
        `position` in the task, `num_rows` of the task, `is_query`.
    """
    return pl.concat(frame(piece, temporal=split.temporal) for piece in split.pieces())


def frame(tasks: PlacedRows, *, temporal: bool) -> pl.DataFrame:
    """Return the rows of some tasks; see `rows_of`."""
    num_kept = tasks.num_kept
    place = np.repeat(tasks.place, num_kept)
    time = pl.Series(tasks.time)
    return pl.DataFrame(
        {
            "user": np.repeat(tasks.user, num_kept),
            "item": tasks.item,
            "value": tasks.value,
            "timestamp": time.set(time == NO_TIME, None),
            "split": np.array([p.split for p in PLACES])[place],
            "state": np.array([p.state for p in PLACES])[place],
            "position": (np.arange(len(place)) - np.repeat(tasks.offsets[:-1], num_kept)).astype(
                "i4"
            ),
            "num_rows": np.repeat(tasks.num_rows, num_kept),
            "is_query": tasks.is_query(temporal=temporal),
        }
    )
