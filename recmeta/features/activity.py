"""The daily activity of each user and popularity of each item, over all time and recently.

The numbers of a day are those at its first instant, from interactions strictly before it, as a job
that refreshes features every midnight would know them. So a feature that is read at an
interaction's time never contains that interaction, and interactions of the same day do not affect
each other.
"""

import polars as pl

from recmeta import schema

DAY = "1d"


def activity(interactions: pl.LazyFrame, table: schema.Table) -> pl.LazyFrame:
    """Return the rows of `user_activity` or `item_activity`: one for each day of a change.

    A number changes when an interaction comes in and when one leaves a window, so that the newest
    row that is not later than a time holds at that time, however old it is. The same interactions
    give the same rows, to the last bit, in whatever order they were ingested. A million
    interactions take about two seconds.

    Args:
        interactions: the `interactions` table; rows without a time are left out.
        table: `schema.USER_ACTIVITY` or `schema.ITEM_ACTIVITY`.
    """
    entity = table.key[0]
    key = [entity, schema.TIMESTAMP]
    next_midnight = pl.col(schema.TIMESTAMP).dt.truncate(DAY).dt.offset_by(DAY)
    daily = (
        interactions.filter(pl.col(schema.TIMESTAMP).is_not_null())
        .group_by(entity, next_midnight)
        .agg(
            pl.len().cast(pl.Int64).alias("count"),
            # Not sum(), which adds in the order in which the rows come.
            pl.col(schema.VALUE).sort().cum_sum().last().alias("sum"),
        )
    )
    windows = {f"_{days}d": days for days in schema.ACTIVITY_WINDOWS}
    comes = daily.select(
        *key,
        *(pl.col(name).alias(name + end) for end in ("", *windows) for name in ("count", "sum")),
    )
    falls_out = [
        daily.select(
            entity,
            pl.col(schema.TIMESTAMP).dt.offset_by(f"{days}d"),
            *(-pl.col(name).alias(name + end) for name in ("count", "sum")),
        )
        for end, days in windows.items()
    ]
    changes = (
        pl.concat([comes, *falls_out], how="diagonal").group_by(key).agg(pl.all().sum()).sort(key)
    )
    held = changes.with_columns(pl.all().exclude(key).cum_sum().over(entity))
    numbers = [
        number
        for end in ("", *windows)
        for number in (
            pl.col(f"count{end}").alias(schema.NUM_INTERACTIONS + end),
            pl.when(pl.col(f"count{end}") > 0)
            .then(pl.col(f"sum{end}") / pl.col(f"count{end}"))
            .alias(schema.MEAN_VALUE + end),
        )
    ]
    return held.select(*key, *numbers).select(table.columns.names)
