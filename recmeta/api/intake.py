"""Turns the rows of users to whom a model adapts into tasks, and counts the rows that are not used.

They are checked as `recmeta adapt` checks a file of new users, by the same functions.
"""

import dataclasses
import datetime
import warnings
from collections.abc import Collection
from typing import Any

import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.api.data.columns import ROLES, Columns
from recmeta.api.data.frames import CLOSE, missing_column, time_unit, to_polars, with_ids
from recmeta.errors import UserError, closest, listed, shown
from recmeta.logs.checking import checked, contracts
from recmeta.logs.checking.attributes import attributes_in_frame
from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.reading.sources import read_frame
from recmeta.metalearn.model import Model
from recmeta.serving.new_user_tasks import (
    NewUserCounts,
    left_with_none,
    tasks_for_new_users,
    unknown_items,
    unused_rows,
)
from recmeta.tasks.task_set import Tasks

ROWS, USERS = "rows", "users"
MOST_NAMED = 2
"""The most unknown items that a warning names."""


class UnusedRowsWarning(UserWarning):
    """A model did not use some of the rows or columns that it was given. The message says which,
    and why."""


@dataclasses.dataclass(frozen=True)
class AdaptCounts(NewUserCounts):
    """The counts of the rows that a model was given."""

    bad_rows: int
    """The number of rows without a user, or with a time that cannot be read."""

    @property
    def unused(self) -> int:
        """The number of interactions that were given and not used."""
        return self.duplicates + self.unknown_items + self.bad_values + self.bad_rows


@dataclasses.dataclass(frozen=True)
class FrameIntake:
    """Users as tasks, with properties of their frame."""

    tasks: Tasks
    counts: AdaptCounts
    unknown: list[str]
    """Some items that the model does not know."""
    misspelt: list[str]
    """Sentences about columns whose names are almost those of an attribute."""
    whole_ids: bool
    """Whether the frame's ids of users are whole numbers, and are returned as such."""
    whole_items: bool
    """Whether the frame's ids of items are whole numbers, and are returned as such."""


def intake(model: Model, rows: Any, users: Any, columns: Columns) -> FrameIntake:
    """Return the users of a frame as tasks, sorted by id.

    Args:
        rows: a frame of interactions; see `Recommender.adapt`.
        users: a frame of the users' attributes, or None.
        columns: the names that the columns may have besides the standard ones.

    Raises:
        UserError: if a column is missing, or another one is probably a misspelling of it, or no row
            has a user.
    """
    frame = to_polars(rows, ROWS)
    if not frame.height:
        raise UserError("there is no row: give at least one, with a user_id.")
    named = columns.among(frame)
    attributes = attribute_kinds(model)
    frame = _with_items(frame, named, (*attributes, schema.EVENT))
    found = named.of(frame, ROWS, (*attributes, schema.EVENT))
    frame = with_ids(frame, [found.user_id, found.item_id])
    knows_items = frame[found.item_id].null_count() < frame.height
    if model.objective == "rating" and found.value is None and knows_items:
        raise missing_column(ROWS, schema.VALUE, frame.columns, " The model learned from ratings.")
    mapping = LogMapping(
        path=ROWS,
        user_col=found.user_id,
        item_col=found.item_id,
        time_col=found.timestamp,
        time_unit="s" if found.timestamp is None else time_unit(frame[found.timestamp], None),
        value_col=found.value if knows_items else None,
    )
    usable, num_bad = _checked(frame, mapping)
    if not usable.num_rows:
        raise UserError(
            f"none of the {num_bad:,} rows has a user and, where there are times, a readable one: "
            f"look at the column {found.user_id!r}"
            + ("." if found.timestamp is None else f", and at the times in {found.timestamp!r}.")
        )
    profiles = _profiles(model, frame, users, found, attributes)
    roles = {getattr(found, role) for role in ROLES}
    tasks, counts = tasks_for_new_users(model, usable, profiles)
    return FrameIntake(
        tasks=tasks,
        counts=AdaptCounts(**dataclasses.asdict(counts), bad_rows=num_bad),
        unknown=unknown_items(model, usable, MOST_NAMED) if counts.unknown_items else [],
        misspelt=_misspelt(frame if users is None else users, roles, attributes),
        whole_ids=_are_whole(frame[found.user_id]),
        whole_items=_are_whole(frame[found.item_id]),
    )


def _are_whole(ids: pl.Series) -> bool:
    """Return whether ids are whole numbers that fit into 64 bits, so that they can be returned as
    such."""
    if not ids.dtype.is_integer():
        return False
    return bool(ids.cast(pl.Int64, strict=False).null_count() == ids.null_count())


def warn_of_unused(model: Model, found: FrameIntake, stacklevel: int) -> None:
    """Warn once of all rows that were not used and of columns that were probably meant to be used,
    if there are any.

    Args:
        stacklevel: as for `warnings.warn`, relative to this function.
    """
    said = found.misspelt
    if found.counts.unused:
        broken = {"without a user or a readable time": found.counts.bad_rows}
        unused = unused_rows(model, found.counts, broken, found.unknown)
        said = [*said, unused, left_with_none(found.counts)]
    if said:
        text = " ".join(filter(None, said))
        warnings.warn(text, UnusedRowsWarning, stacklevel=stacklevel + 1)


def attribute_kinds(model: Model) -> dict[str, Attribute]:
    """Return the users' attributes that the model reads and a frame may give."""
    return {
        field.name: Attribute(kind=field.kind)
        for field in model.encoder.user_fields
        if field.kind != "vector"
        and field.name not in (schema.USER_ID, schema.ITEM_ID, schema.VALUE, schema.TIMESTAMP)
    }


def _misspelt(frame: Any, read: Collection[str], attributes: Collection[str]) -> list[str]:
    """Return a sentence for each column that is probably a misspelling of an attribute that the
    model reads and the frame does not have."""
    if frame is None:
        return []
    names = [str(name) for name in getattr(frame, "column_names", frame.columns)]
    spare = [name for name in names if name not in {*attributes, *read}]
    absent = [name for name in attributes if name not in names]
    pairs = [(name, closest(name, spare, CLOSE)) for name in absent]
    return [
        f"The column {shown(meant)} is not read: the model reads the users' attribute "
        f"{shown(name)}. Rename it."
        for name, meant in pairs
        if meant is not None
    ]


def _with_items(frame: pl.DataFrame, columns: Columns, known: tuple[str, ...]) -> pl.DataFrame:
    """Return the frame, with a column of null items if it only names users.

    Raises:
        UserError: if there is another column that may be meant.
    """
    if columns.item_id in frame.columns:
        return frame
    read = {columns.user_id, *known}
    others = [name for name in frame.columns if name not in read]
    if others:
        raise missing_column(ROWS, columns.item_id, frame.columns, spare=others)
    return frame.with_columns(pl.lit(None, pl.String).alias(columns.item_id))


def _checked(frame: pl.DataFrame, mapping: LogMapping) -> tuple[pa.Table, int]:
    """Return the rows that name a user, and the number of other rows."""
    now = datetime.datetime.now(datetime.UTC)
    blocks, num_bad = [], 0
    for batch in read_frame(frame, ROWS, contracts.wanted_columns(mapping)):
        good, bad = contracts.check(batch, mapping, now)
        named, broken = checked.named_users(bad)
        blocks += [good, named]
        num_bad += broken.height
    rows = pl.concat(blocks, how="diagonal").drop(schema.FILE, schema.LINE, schema.RAW)
    return schema.with_plain_types(rows.to_arrow()), num_bad


def _profiles(
    model: Model,
    frame: pl.DataFrame,
    users: Any,
    columns: Columns,
    attributes: dict[str, Attribute],
) -> pa.Table | None:
    """Return a row per user with given attributes: those of `users`, or the first value of each
    attribute among the user's rows."""
    given, key = frame, columns.user_id
    if users is not None:
        given = to_polars(users, USERS)
        key = columns.user_id if columns.user_id in given.columns else schema.USER_ID
        if key not in given.columns:
            raise missing_column(USERS, key, given.columns)
        given = with_ids(given, [key])
    present = {name: kind for name, kind in attributes.items() if name in given.columns}
    if not present:
        if users is not None:
            raise UserError(
                f"users has none of the attributes that the model reads: "
                f"{listed(list(attributes), 'it reads none')}. It has: {listed(given.columns)}."
            )
        return None
    if users is None:
        first = [pl.col(name).drop_nulls().first() for name in present]
        given = given.group_by(key, maintain_order=True).agg(first)
    source = AttributeSource(path=USERS, id_col=key, columns=present)
    found, _ = attributes_in_frame(source, given, USERS, schema.USER_ID)
    return schema.with_plain_types(found.drop(schema.VALID_FROM).to_arrow())
