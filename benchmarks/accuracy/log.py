"""A data set in numbers, which every protocol divides into training, development and cold users.

Legend: U users, I items, N interactions.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.tasks.arrays import IntArray
from recmeta.tasks.item_files import Items


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """Every interaction of a data set once, sorted by user, then in the user's own order."""

    profiles: pa.Table
    """U rows: `user_id` and raw attributes; a user's number is the position."""
    items: Items
    """The catalogue."""
    user: IntArray
    """(N,) user numbers."""
    item: IntArray
    """(N,) item numbers."""
    value: npt.NDArray[np.float32]
    """(N,) ratings; 1 for implicit feedback."""
    time: IntArray | None = None
    """(N,) seconds since 1970, ascending for each user, or None if the data set has no times."""
    state: npt.NDArray[np.str_] | None = None
    """(N,) the states given by the data set, or None if it has none."""
    basket: IntArray | None = None
    """(N,) a number that the rows of one purchase share, or None if there are no baskets."""
    about: dict[str, Any]
    """Name, fingerprint and verified counts, JSON-ready: the version of the data."""

    @property
    def num_users(self) -> int:
        """U"""
        return int(self.profiles.num_rows)

    @property
    def num_items(self) -> int:
        """I"""
        return len(self.items.item_id)

    def select(self, keep: npt.NDArray[np.bool_]) -> "Log":
        """Return the log with only the rows where `keep` (N,) is true; all users and items stay."""
        return dataclasses.replace(
            self,
            user=self.user[keep],
            item=self.item[keep],
            value=self.value[keep],
            time=None if self.time is None else self.time[keep],
            state=None if self.state is None else self.state[keep],
            basket=None if self.basket is None else self.basket[keep],
        )


def number(
    rows: pl.DataFrame, users: pl.DataFrame, items: pl.DataFrame, about: dict[str, Any]
) -> Log:
    """Return a log from frames whose ids are strings.

    Args:
        rows: `user_id`, `item_id`, `value`, and `time`, `state`, `basket` where there are such;
            in each user's own order. Of a pair that occurs twice, the first row counts.
        users: `user_id` and attributes; those without a row are left out.
        items: `item_id` and attributes; all stay, so that the whole catalogue is ranked.
    """
    rows = rows.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    users = users.join(rows.select("user_id").unique(), on="user_id", how="semi").sort("user_id")
    items = items.sort("item_id")
    rows = (
        rows.join(users.select("user_id").with_row_index("user"), on="user_id")
        .join(items.select("item_id").with_row_index("item"), on="item_id")
        .sort("user", maintain_order=True)
    )
    catalogue = schema.with_plain_types(items.to_arrow())
    num_items = len(items)

    def optional(name: str) -> IntArray | None:
        return rows[name].to_numpy().astype(np.int64) if name in rows.columns else None

    return Log(
        profiles=schema.with_plain_types(users.to_arrow()),
        items=Items(
            catalogue["item_id"].combine_chunks(),
            np.arange(num_items, dtype=np.int32),
            np.full(num_items, schema.ALWAYS),
            catalogue.drop_columns(["item_id"]),
        ),
        user=rows["user"].to_numpy().astype(np.int64),
        item=rows["item"].to_numpy().astype(np.int64),
        value=rows["value"].to_numpy().astype(np.float32),
        time=optional("time"),
        state=np.array(rows["state"].to_list(), np.str_) if "state" in rows.columns else None,
        basket=optional("basket"),
        about=about,
    )
