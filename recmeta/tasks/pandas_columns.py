"""The conversion of pandas columns to Arrow, whatever they hold. pandas itself is not imported."""

import uuid
from typing import Any

import pyarrow as pa

from recmeta.errors import UserError, shown

NULLS = ("nan", "NaN", "NaT", "<NA>")
"""The text of pandas' missing values."""


def of_pandas(values: Any, name: str, what: str) -> pa.Array:
    """Return a pandas column as an Arrow array. A column with cells of several types, or with
    numbers that fit no type, becomes text.

    Args:
        values: a Series.
        what: a name for the frame's content, for messages.

    Raises:
        UserError: for cells that cannot be converted to text.
    """
    kind = type(values.dtype).__name__
    if kind == "SparseDtype":
        values = values.sparse.to_dense()
    elif kind == "PeriodDtype":
        values = values.dt.to_timestamp()
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        # Scalars of numpy become Python's, as those of other columns are.
        cells = [cell.item() if hasattr(cell, "dtype") else cell for cell in values.tolist()]
        given = [cell for cell in cells if not (cell is None or str(cell) in NULLS)]
        if not all(isinstance(cell, str | int | float | bool | uuid.UUID) for cell in given):
            reason = str(error.args[0] if error.args else error).partition("\n")[0]
            raise UserError(
                f"the column {shown(name)} of {what} holds values that are not text, numbers or "
                f"times ({reason:.100}): turn it into one of them, such as with "
                f"{what}[{name!r}].astype(str), or drop it."
            ) from error
        texts = [None if cell is None or str(cell) in NULLS else str(cell) for cell in cells]
        return pa.array(texts, pa.string())


def plain_column(column: Any, name: str, what: str) -> Any:
    """Return a column with plain Arrow types: categories as their values, UUIDs as text.

    Args:
        name, what: as `of_pandas`.

    Raises:
        UserError: for categories that no text could stand for, such as intervals.
    """
    if pa.types.is_dictionary(column.type):
        try:
            return column.cast(column.type.value_type)
        except pa.ArrowException as error:
            raise UserError(
                f"the column {shown(name)} of {what} has categories that are not text, numbers or "
                f"times: turn it into text with {what}[{name!r}].astype(str), or drop it."
            ) from error
    if isinstance(column.type, pa.UuidType):
        texts = [None if cell is None else str(cell) for cell in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column
