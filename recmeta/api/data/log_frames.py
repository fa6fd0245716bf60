"""A log as frames in memory, with the mapping by which it is read like any other log."""

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.api.data.columns import Columns
from recmeta.api.data.frames import missing_column, time_unit, to_polars, with_ids
from recmeta.errors import UserError, shown
from recmeta.logs.mapping import EARLIEST_TIME, AttributeSource, LogMapping
from recmeta.logs.reading.columns import attributes_of
from recmeta.schema import ITEM_ID, USER_ID, VALID_FROM

Feedback = Literal["rating", "implicit"]
SAMPLE_ROWS = 500_000
"""The number of rows from which the kinds of attributes are recognised, as in one block of a
file."""
INTERACTIONS = "interactions"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogFrames:
    """Frames as they were given, but in Polars, and the meaning of their columns."""

    mapping: LogMapping
    """The mapping, whose paths are names of the frames and no real paths."""
    interactions: pl.DataFrame
    users: pl.DataFrame | None
    items: pl.DataFrame | None
    columns: Columns
    """The columns of `interactions`."""

    def written(self, folder: Path) -> LogMapping:
        """Write the frames as Parquet files, and return the mapping that reads them."""

        def write(frame: pl.DataFrame, name: str) -> str:
            path = folder / f"{name}.parquet"
            frame.write_parquet(path)
            return str(path)

        def source(
            mapped: AttributeSource | None, frame: pl.DataFrame | None
        ) -> AttributeSource | None:
            if mapped is None or frame is None:
                return None
            return dataclasses.replace(mapped, path=write(frame, mapped.path))

        return dataclasses.replace(
            self.mapping,
            path=write(self.interactions, INTERACTIONS),
            users=source(self.mapping.users, self.users),
            items=source(self.mapping.items, self.items),
        )


def of_frames(
    interactions: Any,
    *,
    users: Any = None,
    items: Any = None,
    columns: Columns,
    scale: tuple[float | None, float | None] | None = None,
    feedback: Feedback | None = None,
    unit: str | None = None,
    earliest_time: str = EARLIEST_TIME,
    max_bad_share: float = 0.1,
    stacklevel: int = 3,
) -> LogFrames:
    """Return frames and their mapping; see `Dataset.from_frame`.

    Raises:
        UserError: if an argument is no frame, has no row, or lacks a column.
    """
    if feedback not in ("rating", "implicit", None):
        raise UserError(f"feedback is {shown(feedback)}; it must be 'rating' or 'implicit'.")
    if not isinstance(max_bad_share, int | float):
        raise UserError(f"max_bad_share is {shown(max_bad_share)}; it must be from 0 to 1.")
    frame = to_polars(interactions, INTERACTIONS)
    if not frame.height:
        raise UserError("interactions has no row: give at least some users with two each.")
    found = columns.of(frame, INTERACTIONS)
    if columns.value is not None and found.value is None and feedback != "implicit":
        _warn_of_values(frame, found, stacklevel + 1)
    frame = with_ids(frame, [found.user_id, found.item_id])
    own_users = _entities(users, schema.USERS.name, found.user_id, USER_ID)
    own_items = _entities(items, schema.ITEMS.name, found.item_id, ITEM_ID)
    mapping = LogMapping(
        path=INTERACTIONS,
        user_col=found.user_id,
        item_col=found.item_id,
        time_col=found.timestamp,
        time_unit="s" if found.timestamp is None else time_unit(frame[found.timestamp], unit),
        event_col=None if feedback is not None else found.event,
        event={"rating": schema.RATING_EVENT, "implicit": "click", None: ""}[feedback],
        value_col=found.value,
        scale=scale_text(scale),
        earliest_time=earliest_time,
        max_bad_share=max_bad_share,
        users=None if own_users is None else own_users[1],
        items=None if own_items is None else own_items[1],
    )
    return LogFrames(
        mapping=mapping,
        interactions=frame,
        users=None if own_users is None else own_users[0],
        items=None if own_items is None else own_items[0],
        columns=found,
    )


def csr_frame(
    matrix: Any, user_ids: Sequence[Any] | None, item_ids: Sequence[Any] | None
) -> pl.DataFrame:
    """Return the entries of a user-item matrix as rows.

    Args:
        matrix: anything with `indptr`, `indices`, `data` and `shape` in compressed rows, such as
            SciPy's csr_array, or with `tocsr()`.
        user_ids: the ids of the rows, or None for their numbers.
        item_ids: the ids of the columns, or None for their numbers.

    Raises:
        UserError: if it is no such matrix, or there are too many or too few ids.
    """
    if getattr(matrix, "format", "csr") != "csr" or not hasattr(matrix, "indptr"):
        if not hasattr(matrix, "tocsr"):
            raise UserError(
                f"the matrix is a {type(matrix).__name__}; it must be sparse, in compressed rows "
                "(indptr, indices, data), such as scipy.sparse.csr_array."
            )
        matrix = matrix.tocsr()
    num_users, num_items = matrix.shape
    user = np.repeat(np.arange(num_users), np.diff(np.asarray(matrix.indptr)))
    columns = {}
    for name, place, ids, count in (
        (USER_ID, user, user_ids, num_users),
        (ITEM_ID, np.asarray(matrix.indices), item_ids, num_items),
    ):
        if ids is None:
            columns[name] = pl.Series(place.astype(np.int64))
            continue
        if len(ids) != count:
            raise UserError(f"{name}s has {len(ids)} entries; the matrix is {matrix.shape}.")
        columns[name] = pl.Series(ids).gather(place)
    return pl.DataFrame(columns | {schema.VALUE: pl.Series(np.asarray(matrix.data, np.float64))})


def _warn_of_values(frame: pl.DataFrame, columns: Columns, stacklevel: int) -> None:
    """Warn of numeric columns that perhaps hold the ratings, if no column has their name."""
    read = {columns.user_id, columns.item_id, columns.timestamp, columns.event}
    numeric = [n for n, dtype in frame.schema.items() if dtype.is_numeric() and n not in read]
    if numeric:
        warnings.warn(
            f"there is no column 'value', so that every row is a click. Not read: "
            f"{', '.join(numeric)}. If one holds ratings, name it (value={numeric[0]!r}); else say "
            "value=None.",
            stacklevel=stacklevel,
        )


def _entities(
    given: Any, name: str, id_column: str, standard: str
) -> tuple[pl.DataFrame, AttributeSource] | None:
    """Return a frame of users or items and the description of its columns."""
    if given is None:
        return None
    frame = to_polars(given, name)
    column = id_column if id_column in frame.columns else standard
    if column not in frame.columns:
        raise missing_column(name, column, frame.columns)
    frame = with_ids(frame, [column])
    has_times = VALID_FROM in frame.columns
    others = frame.drop(column, *([VALID_FROM] if has_times else []))
    source = AttributeSource(
        path=name,
        id_col=column,
        columns=attributes_of(others.head(SAMPLE_ROWS)),
        valid_from_col=VALID_FROM if has_times else None,
        time_unit=time_unit(frame[VALID_FROM], None) if has_times else "s",
    )
    return frame, source


def scale_text(scale: tuple[float | None, float | None] | None) -> str:
    """Return the bounds of a scale in the form of `LogMapping.scale`.

    Raises:
        UserError: if it is no pair.
    """
    if scale is None:
        return ""
    ends = list(scale) if isinstance(scale, Iterable) and not isinstance(scale, str) else []
    if len(ends) != 2 or not all(end is None or isinstance(end, Real) for end in ends):
        raise UserError(
            f"scale is {shown(scale)}; it must be the lowest and the highest value: (1, 5)."
        )
    low, high = ("" if end is None else f"{float(end):.17g}" for end in ends)
    return f"{low}:{high}"
