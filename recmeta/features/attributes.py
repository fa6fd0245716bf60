"""Attributes of users and items as they were known at a time."""

import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.tasks.item_files import Items


def profiles_as_of(tasks: pl.DataFrame, users: pl.LazyFrame) -> pl.DataFrame:
    """Return the users' attributes as known at each task's cut time, with a row per task, in order.

    Args:
        tasks: `user_id` and `cut_time` (µs since 1970).
        users: the `users` table; a row without `valid_from` was always known.

    Returns:
        `user_id` and the attributes, which are null if nothing was known yet.
    """
    known = (
        users.with_columns(_micros(schema.VALID_FROM))
        .join(tasks.lazy().select(schema.USER_ID).unique(), on=schema.USER_ID, how="semi")
        .sort(schema.VALID_FROM)
        .collect()
    )
    order = "task"
    return (
        tasks.with_row_index(order)
        .sort(schema.CUT_TIME)
        .join_asof(
            known,
            left_on=schema.CUT_TIME,
            right_on=schema.VALID_FROM,
            by=schema.USER_ID,
            strategy="backward",
            check_sortedness=False,
        )
        .sort(order)
        .drop(order, schema.CUT_TIME, schema.VALID_FROM)
    )


def newest(versions: pl.LazyFrame, key: str) -> pl.LazyFrame:
    """Return the last known attributes of each user or item, without the time.

    Args:
        versions: rows of the `users` or `items` table. A row without `valid_from` was always known.
        key: the column with the ids.
    """
    return (
        versions.sort(schema.VALID_FROM)
        .unique(key, keep="last", maintain_order=True)
        .drop(schema.VALID_FROM)
    )


def catalogue(item_id: pl.Series, items: pl.LazyFrame) -> Items:
    """Return all items with every version of their attributes.

    Args:
        item_id: sorted ids of the catalogue.
        items: the `items` table; an item without a row there has null attributes.
    """
    versions = (
        pl.LazyFrame({schema.ITEM_ID: item_id})
        .with_row_index("item")
        .join(items, on=schema.ITEM_ID, how="left")
        .with_columns(_micros(schema.VALID_FROM))
        .sort("item", schema.VALID_FROM)
        .collect()
    )
    return Items(
        item_id.to_arrow().cast(pa.string()),
        versions["item"].cast(pl.Int32).to_numpy(),
        versions[schema.VALID_FROM].to_numpy(),
        schema.with_plain_types(
            versions.drop(schema.ITEM_ID, "item", schema.VALID_FROM).to_arrow()
        ),
    )


def _micros(name: str) -> pl.Expr:
    return pl.col(name).dt.timestamp("us").fill_null(schema.ALWAYS).alias(name)
