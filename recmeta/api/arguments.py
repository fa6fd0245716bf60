"""Arguments other than frames: ids of any type and whole numbers."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from recmeta import schema
from recmeta.api.data.frames import kind_of, missing_column, to_polars
from recmeta.errors import UserError, shown


def id_text(value: Any, name: str) -> str:
    """Return an id as text: 50, 50.0, numpy's 50 and "50" are the same id.

    Args:
        name: the name of the argument, for the message.

    Raises:
        UserError: if the value is no single id.
    """
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()  # a scalar of numpy
    is_missing = value is None or str(value) in ("nan", "NaT", "<NA>")
    if is_missing or (hasattr(value, "__iter__") and not isinstance(value, str | bytes)):
        raise UserError(f"{name} is {shown(value)}; it must be one id, of text or a number.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return str(value).strip()


def ids_of(items: Any, name: str) -> list[str]:
    """Return the ids of one item, of several, or of a frame with a column `item_id`.

    Raises:
        UserError: for anything else.
    """
    if isinstance(items, pa.Table) or hasattr(items, "columns"):
        kind_of(items, name)
        frame = to_polars(items, name)
        if schema.ITEM_ID not in frame.columns:
            raise missing_column(name, schema.ITEM_ID, frame.columns)
        items = frame[schema.ITEM_ID].to_list()
    elif isinstance(items, str | bytes) or not isinstance(items, Iterable):
        items = [items]
    elif isinstance(items, Mapping):
        raise UserError(
            f"{name} is a {type(items).__name__}; it must be an id, a list of ids, or a frame with "
            f"a column {schema.ITEM_ID!r}."
        )
    given = items.to_pylist() if hasattr(items, "to_pylist") else items
    return [id_text(item, f"{name}[{place}]") for place, item in enumerate(given)]


def whole_number(value: Any, name: str, least: int) -> int:
    """Return a whole number.

    Raises:
        UserError: for anything else, or one below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise UserError(f"{name} is {shown(value)}; it must be a whole number.") from None
    if number < least:
        raise UserError(f"{name} is {number}; it must be at least {least}.")
    return number
