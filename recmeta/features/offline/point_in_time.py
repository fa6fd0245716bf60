"""Point-in-time joins: for each entity row, each view's newest row that was known at its time.

There is one lazy as-of join per view. These are the rules where Feast's stores disagree or do not
define any:

- A row counts from its event time, inclusive, to `ttl` after it, inclusive. Without a TTL (or with
  a TTL of zero) it counts for ever.
- Among rows with the same event time, the one that was created last counts, and among those the
  last one in the source.
- A row without an event time was always known: it counts until the first row with a time, and no
  TTL ends it.
- A null key matches nothing, and an entity row without a time gets no features.
- Every entity row is returned once, in its place, whether features are known or not.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl

from recmeta.errors import UserError
from recmeta.schema import ALWAYS

LONGEST = int(np.iinfo(np.int64).max)
ROW = "__row"
TIME = "__time"
KNOWN_SINCE = "__known_since"
CREATED = "__created"
VISIBLE = "__visible"
RANK = "__rank"

Unit = Literal["us", "ns"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureLookup:
    """What one feature view contributes to a point-in-time join."""

    view: str
    """The view's name, for messages."""
    rows: pl.LazyFrame
    """The view's source."""
    keys: Mapping[str, str]
    """The key columns of `rows`, each with the entity column that it is joined with; empty for a
    single entity."""
    time: str
    """The column of `rows` with the event time. A time without a zone is in UTC."""
    created: str | None
    """The column of `rows` with the time at which a row was written, or None."""
    ttl: datetime.timedelta | None
    """How long a row counts, or None for ever."""
    features: Mapping[str, str]
    """The feature columns of `rows`, each with its name in the result."""


def point_in_time_join(
    entities: pl.LazyFrame,
    time: str,
    lookups: Sequence[FeatureLookup],
    *,
    created_before: bool = False,
) -> pl.LazyFrame:
    """Return the entity rows with the features that were known at each row's time.

    Args:
        entities: a frame whose columns include the keys of every lookup and `time`.
        time: the column with the requested time, in UTC.
        lookups: the views; every feature's name in the result is new.
        created_before: whether a row counts only once it has been created, so that rows that were
            filled in later are left out.

    Raises:
        UserError: if a key or feature is missing, or a key's types do not match.
    """
    schema = entities.collect_schema()
    asked = schema[time]
    assert isinstance(asked, pl.Datetime), "guaranteed by entity_frame"
    unit: Unit = "ns" if asked.time_unit == "ns" else "us"
    names = list(schema)
    keys = {name for lookup in lookups for name in lookup.keys.values()}
    for lookup in lookups:
        _check_columns(lookup, schema, taken=names)
        names += lookup.features.values()
    # Only the columns that a join reads are sorted by time and back; other columns stay in place.
    known = entities.select(*keys, _ticks(time, unit).alias(TIME)).with_row_index(ROW).sort(TIME)
    for lookup in lookups:
        known = _join(known, schema, lookup, unit, created_before)
    features = known.sort(ROW).select(names[len(schema) :])
    return pl.concat([entities, features], how="horizontal")


def _join(
    entities: pl.LazyFrame,
    schema: Mapping[str, pl.DataType],
    lookup: FeatureLookup,
    entity_unit: Unit,
    created_before: bool,
) -> pl.LazyFrame:
    types = lookup.rows.collect_schema()
    unit: Unit = "ns" if "ns" in str(types[lookup.time]) else "us"
    key = [f"__key_{i}" for i in range(len(lookup.keys))]
    rows = lookup.rows.select(
        *(pl.col(name).alias(k) for k, name in zip(key, lookup.keys, strict=True)),
        _ticks(lookup.time, unit).fill_null(ALWAYS).alias(KNOWN_SINCE),
        *([_ticks(lookup.created, unit).alias(CREATED)] if lookup.created else []),
        *(pl.col(name).alias(feature) for name, feature in lookup.features.items()),
    )
    if key:
        rows = rows.filter(pl.all_horizontal(pl.col(key).is_not_null()))
    by_age = [KNOWN_SINCE, CREATED] if lookup.created else [KNOWN_SINCE]
    rows = rows.sort(
        by_age, maintain_order=True
    )  # a null creation time sorts first, so that it yields to others

    matched = pl.col(TIME).is_not_null()
    now = pl.col(TIME) if unit == entity_unit else _converted(pl.col(TIME), entity_unit, unit)
    left = entities.with_columns(
        *(
            _as_type(entity, schema[entity], types[name], lookup.view).alias(k)
            for k, (name, entity) in zip(key, lookup.keys.items(), strict=True)
        ),
        now.fill_null(ALWAYS).alias(VISIBLE),
    )
    if created_before and lookup.created:
        joined = _join_visible(left, rows, key)
    else:
        joined = _as_of(left, rows.with_columns(pl.col(KNOWN_SINCE).alias(VISIBLE)), key)
    if lookup.ttl:
        ticks = round(lookup.ttl / datetime.timedelta(microseconds=1))
        longest = min(ticks * (1000 if unit == "ns" else 1), LONGEST)
        age = pl.col(VISIBLE) - pl.col(KNOWN_SINCE)
        matched &= (pl.col(KNOWN_SINCE) == ALWAYS) | (age <= longest)
    features = list(lookup.features.values())
    return joined.with_columns(pl.when(matched).then(pl.col(features))).drop(
        *key, VISIBLE, KNOWN_SINCE, *([CREATED] if lookup.created else [])
    )


def _as_of(left: pl.LazyFrame, rows: pl.LazyFrame, key: list[str]) -> pl.LazyFrame:
    """Return, for each left row, the last visible row with its key. `left` must be sorted."""
    return left.join_asof(
        rows, on=VISIBLE, by=key or None, strategy="backward", check_sortedness=False
    )


def _join_visible(left: pl.LazyFrame, rows: pl.LazyFrame, key: list[str]) -> pl.LazyFrame:
    """Join rows that become visible only when their event is past and they have been created.

    The order in which rows become visible is not that of their events. So each row gets its rank by
    event, and the time at which it becomes visible gets the highest rank so far: an as-of join
    finds that rank.
    """
    ranked = rows.filter(pl.col(CREATED).is_not_null() | (pl.col(KNOWN_SINCE) == ALWAYS))
    ranked = ranked.with_row_index(RANK)
    always = pl.when(pl.col(KNOWN_SINCE) == ALWAYS).then(ALWAYS)
    visible = always.otherwise(pl.max_horizontal(KNOWN_SINCE, CREATED)).alias(VISIBLE)
    best = pl.col(RANK).cum_max()
    steps = ranked.select(*key, visible, RANK).sort(VISIBLE, RANK)
    steps = steps.with_columns(best.over(key) if key else best)
    return (
        _as_of(left, steps, key)
        .join(ranked.drop(key), on=RANK, how="left", maintain_order="left")
        .drop(RANK)
    )


def _ticks(name: str, unit: Unit) -> pl.Expr:
    """Return a time as an integer since 1970 in UTC."""
    return pl.col(name).dt.timestamp(unit)


def _converted(ticks: pl.Expr, unit: Unit, to: Unit) -> pl.Expr:
    return ticks * 1000 if to == "ns" else ticks.floordiv(1000)


def _as_type(entity: str, have: pl.DataType, need: pl.DataType, view: str) -> pl.Expr:
    """Return an entity column as the type of the view's key. Values that do not fit become null."""
    column = pl.col(entity)
    if have == need or have == pl.Null:
        return column.cast(need)
    if isinstance(have, pl.Categorical | pl.Enum) and need == pl.String:
        return column.cast(pl.String)
    if (
        have.is_float() and need.is_integer()
    ):  # pandas turns integers with missing values into floats
        column = pl.when(column == column.floor()).then(column)
        return column.cast(need, strict=False)
    if have.is_integer() and need.is_integer():
        return column.cast(need, strict=False)
    raise UserError(
        f"the entity column {entity!r} is of type {have}, and the feature view {view!r} is keyed "
        f"by {need}: cast the column to that type."
    )


def _check_columns(
    lookup: FeatureLookup, schema: Mapping[str, pl.DataType], *, taken: Sequence[str]
) -> None:
    types = lookup.rows.collect_schema()
    needed = [*lookup.keys, lookup.time, lookup.created, *lookup.features]
    for name in needed:
        if name and name not in types:
            raise UserError(
                f"the source of the feature view {lookup.view!r} has no column {name!r}; it has "
                f"{', '.join(types)}."
            )
    for name in filter(None, (lookup.time, lookup.created)):
        if not types[name].is_temporal():
            raise UserError(
                f"the column {name!r} of the feature view {lookup.view!r} is of type "
                f"{types[name]}; it must hold times."
            )
    for entity in lookup.keys.values():
        if entity not in schema:
            raise UserError(
                f"the feature view {lookup.view!r} needs the column {entity!r}, which the entity "
                f"rows do not have; they have {', '.join(schema)}."
            )
    for feature in lookup.features.values():
        if feature in taken:
            raise UserError(
                f"the feature {feature!r} of the feature view {lookup.view!r} would overwrite a "
                "column of the same name: rename that, or ask for full_feature_names."
            )
