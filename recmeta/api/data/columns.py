"""The columns of a frame that hold the user, the item, the time, the value and the kind of
event."""

import dataclasses
import difflib
from typing import Any

import polars as pl

from recmeta import schema
from recmeta.api.data.frames import CLOSE, missing_column
from recmeta.errors import UserError, shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of a frame's columns. If None, the frame has no such column, or it is not read."""

    user_id: str = schema.USER_ID
    item_id: str = schema.ITEM_ID
    timestamp: str | None = schema.TIMESTAMP
    value: str | None = schema.VALUE
    event: str | None = schema.EVENT

    def of(self, frame: pl.DataFrame, what: str, known: tuple[str, ...] = ()) -> "Columns":
        """Return the columns that a frame has.

        A column that was not named by the caller may be absent, unless another column has such a
        similar name that it is probably meant. A column of times that are all null counts as
        absent.

        Args:
            what: a name for the frame's content, for messages.
            known: further columns that are read, and are no misspelling of others.

        Raises:
            UserError: if a column that is needed, or was named, is absent.
        """
        names = frame.columns
        for role in ROLES:
            column = getattr(self, role)
            is_name = isinstance(column, str) or (column is None and role not in _NEEDED)
            if not is_name:
                raise UserError(f"{role} is {shown(column)}; it must be the name of a column.")
        for role, column in (("user_id", self.user_id), ("item_id", self.item_id)):
            if column not in names:
                raise missing_column(what, column, names, f" Name it with {role}='…'.")
            if frame.schema[column].is_nested():
                raise UserError(
                    f"the column {shown(column)} of {what} holds {frame.schema[column]}; an id is "
                    "text or a number: give a row to each, such as with explode()."
                )
        unread = [name for name in names if name not in {*self._named, *known}]
        found: dict[str, Any] = {}
        for role in ("timestamp", "value", "event"):
            column = getattr(self, role)
            found[role] = column if column in names else None
            if column is None:
                continue
            if column in names:
                if role == "timestamp" and frame[column].null_count() == frame.height:
                    found[role] = None  # as in the rows of a data set without times
                continue
            if column != getattr(Columns, role):
                raise missing_column(what, column, names)
            self._refuse_alike(role, unread, what)
        return dataclasses.replace(self, **found)

    def among(self, frame: pl.DataFrame) -> "Columns":
        """Return these columns, each replaced by its standard name if the frame does not have
        it."""
        return dataclasses.replace(
            self,
            **{
                role: getattr(Columns, role)
                for role in ROLES
                if getattr(self, role) is None or getattr(self, role) not in frame.columns
            },
        )

    @property
    def _named(self) -> set[str]:
        return {name for role in ROLES if (name := getattr(self, role)) is not None}

    def _refuse_alike(self, role: str, unread: list[str], what: str) -> None:
        alike = difflib.get_close_matches(role, [name.lower() for name in unread], 1, CLOSE)
        if alike:
            meant = next(name for name in unread if name.lower() == alike[0])
            raise UserError(
                f"{what} has no column {role!r}. Did you mean {meant!r}? Name it with "
                f"{role}={meant!r}, or say {role}=None to leave it unread."
            )


_NEEDED = ("user_id", "item_id")
ROLES = tuple(field.name for field in dataclasses.fields(Columns))
