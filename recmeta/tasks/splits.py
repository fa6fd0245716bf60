"""Which interactions are support, which are query, and which users are for what.

Users fall into meta-train, development and cold test by a stable hash of their id. Within a user:

    temporal     the first rows are support, the next ones query; later ones are left out, except
    that
                 a meta-training user keeps them all as query
    random       `query_size` rows drawn by a stable hash are query, all others support
    melu_states  as random, in the four states of Lee et al. (KDD 2019): items, too, are existing or
                 new; models train on existing users and items and are tested on the other three
                 states

Only the first event of a user with an item counts.
"""

import dataclasses
from typing import Literal

import numpy as np
import polars as pl

from recmeta import schema
from recmeta.errors import UserError
from recmeta.tasks.episodes import splitmix64
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.task_set import Objective

USER = "user"
ITEM = "item"
IS_QUERY = "is_query"
POSITION = "position"
NUM_ROWS = "num_rows"
RATING_EVENT = "rating"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How interactions become tasks."""

    split: Literal["auto", "temporal", "random", "melu_states"] = "auto"
    """`auto` is temporal where the log has times, else random."""
    objective: Literal["auto", "rating", "implicit"] = "auto"
    """`auto` is rating where the log has rating events, else implicit."""
    events: tuple[str, ...] | None = None
    """Kinds of event that count; None: ratings for the rating objective, else all kinds."""
    support_size: int = 20
    """Temporal: most support rows of a task."""
    query_size: int = 20
    """Most query rows of a development or test task; for random splits, of every task."""
    min_interactions: int = 2
    """Users (in a state) with fewer rows are left out. MeLU: 13."""
    max_interactions: int | None = None
    """Users (in a state) with more rows are left out. MeLU: 100."""
    dev_share: float = 0.1
    """Share of users on whom hyperparameters and the number of epochs are chosen."""
    test_share: float = 0.2
    """Share of users who are cold: no model sees them before evaluation."""
    new_item_share: float = 0.2
    """melu_states: share of items that are new."""
    new_item_attribute: str | None = None
    """melu_states: the numeric item attribute whose highest values are new, such as `release_year`;
    None draws new items by a stable hash."""

    def __post_init__(self) -> None:
        for name in ("dev_share", "test_share", "new_item_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1).")
        if self.dev_share + self.test_share >= 1:
            raise ValueError(
                f"dev_share {self.dev_share} and test_share {self.test_share} leave no user to "
                "meta-train on; their sum must be below 1."
            )
        if self.support_size < 0 or self.query_size < 1 or self.min_interactions < 1:
            raise ValueError(
                f"support_size {self.support_size} must be at least 0, query_size "
                f"{self.query_size} and min_interactions {self.min_interactions} at least 1."
            )
        if self.max_interactions is not None and self.max_interactions < self.min_interactions:
            raise ValueError(
                f"max_interactions {self.max_interactions} is below min_interactions "
                f"{self.min_interactions}."
            )


@dataclasses.dataclass(frozen=True)
class SplitRows:
    """Every interaction that belongs to a task, and what it is there for."""

    rows: pl.DataFrame
    """`user`, `item` (numbers), `value`, `timestamp` (µs, null without times), `split`, `state`,
    `position` in the task, `num_rows` of the task, `is_query`; sorted by split, state, user,
    position."""
    user_id: pl.Series
    """Sorted ids; a user's number is the position."""
    objective: Objective
    temporal: bool


def split_interactions(
    interactions: pl.LazyFrame,
    item_id: pl.Series,
    items: pl.LazyFrame,
    config: SplitConfig,
    seed: int,
) -> SplitRows:
    """Give every interaction its place.

    Args:
        interactions: the `interactions` table.
        item_id: sorted ids of the catalogue; holds every item of `interactions`.
        items: the `items` table, read only for `new_item_attribute`.
        seed: of the hashes that draw users, items and rows.

    Raises:
        UserError: when no row is left, or a temporal split is asked of a log without times.
    """
    objective, events = _objective(interactions, config)
    temporal = _is_temporal(interactions, config)
    chosen = interactions.filter(pl.col(schema.EVENT).is_in(events))
    user_id = chosen.select(pl.col(schema.USER_ID).unique().sort()).collect().to_series()
    if len(user_id) == 0:
        raise UserError(
            f"the workspace has no interaction of the kinds {events}: ingest a log first, or "
            "change `events`."
        )
    by_user = pl.LazyFrame({schema.USER_ID: user_id}).with_row_index(USER)
    by_item = pl.LazyFrame({schema.ITEM_ID: item_id}).with_row_index(ITEM)
    rows = (
        chosen.join(by_user, on=schema.USER_ID)
        .join(by_item, on=schema.ITEM_ID)
        .sort(USER, schema.TIMESTAMP, ITEM, schema.EVENT, nulls_last=True)
        .select(
            pl.col(USER).cast(pl.Int32),
            pl.col(ITEM).cast(pl.Int32),
            pl.col(schema.VALUE).cast(pl.Float32)
            if objective == "rating"
            else pl.lit(1.0, pl.Float32).alias(schema.VALUE),
            pl.col(schema.TIMESTAMP).dt.timestamp("us"),
        )
        .unique([USER, ITEM], keep="first", maintain_order=True)
        .collect(engine="streaming")
    )
    return SplitRows(
        _place(rows, user_id, item_id, items, config, seed, temporal), user_id, objective, temporal
    )


def _place(
    rows: pl.DataFrame,
    user_id: pl.Series,
    item_id: pl.Series,
    items: pl.LazyFrame,
    config: SplitConfig,
    seed: int,
    temporal: bool,
) -> pl.DataFrame:
    share = unit_hash(user_id.to_arrow(), seed)
    split = np.select(
        [share < config.test_share, share < config.test_share + config.dev_share],
        ["test", "dev"],
        "train",
    )
    rows = rows.with_columns(
        pl.Series(schema.SPLIT, split).gather(rows[USER]),
        pl.Series(schema.STATE, np.where(split == "test", "user_cold", "warm")).gather(rows[USER]),
    )
    if config.split == "melu_states":
        rows = _with_states(rows, _new_items(item_id, items, config, seed))
    task = [USER, schema.STATE]
    num_rows = pl.len().over(task).cast(pl.Int32)
    rows = rows.with_columns(num_rows.alias(NUM_ROWS)).filter(
        pl.col(NUM_ROWS) >= config.min_interactions
    )
    if config.max_interactions is not None:
        rows = rows.filter(pl.col(NUM_ROWS) <= config.max_interactions)
    if len(rows) == 0:
        raise UserError(
            f"no user has between {config.min_interactions} and "
            f"{config.max_interactions or 'any number of'} interactions: loosen "
            "min_interactions and max_interactions."
        )
    if not temporal:
        rows = rows.with_columns(_row_hash(rows, user_id, item_id, seed)).sort(USER, "hash")
    rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).over(task).alias(POSITION))
    return (
        _mark_query(rows, config, temporal)
        .sort(schema.SPLIT, schema.STATE, USER, POSITION)
        .select(
            USER,
            ITEM,
            schema.VALUE,
            schema.TIMESTAMP,
            schema.SPLIT,
            schema.STATE,
            POSITION,
            NUM_ROWS,
            IS_QUERY,
        )
    )


def _mark_query(rows: pl.DataFrame, config: SplitConfig, temporal: bool) -> pl.DataFrame:
    """Say which rows are query; half of a short history is, and at least one row."""
    half = (pl.col(NUM_ROWS) + 1) // 2
    num_query = pl.min_horizontal(pl.lit(config.query_size, pl.Int32), half)
    if not temporal:  # rows stand in the order of their hash
        return rows.with_columns((pl.col(POSITION) < num_query).alias(IS_QUERY))
    num_support = pl.min_horizontal(
        pl.lit(config.support_size, pl.Int32), pl.col(NUM_ROWS) - num_query
    )
    kept = (pl.col(schema.SPLIT) == "train") | (pl.col(POSITION) < num_support + config.query_size)
    return rows.with_columns((pl.col(POSITION) >= num_support).alias(IS_QUERY)).filter(kept)


def _with_states(rows: pl.DataFrame, is_new: pl.Series) -> pl.DataFrame:
    """Name each row's state and keep what the protocol uses: training is on warm rows alone."""
    new_item = is_new.gather(rows[ITEM])
    cold_user = rows[schema.SPLIT] == "test"
    rows = rows.with_columns(
        pl.when(cold_user & new_item)
        .then(pl.lit("user_and_item_cold"))
        .when(cold_user)
        .then(pl.lit("user_cold"))
        .when(new_item)
        .then(pl.lit("item_cold"))
        .otherwise(pl.lit("warm"))
        .alias(schema.STATE)
    )
    is_item_cold = pl.col(schema.STATE) == "item_cold"
    return rows.filter(~(is_item_cold & (pl.col(schema.SPLIT) == "dev"))).with_columns(
        pl.when(is_item_cold).then(pl.lit("test")).otherwise(schema.SPLIT).alias(schema.SPLIT)
    )


def _new_items(
    item_id: pl.Series, items: pl.LazyFrame, config: SplitConfig, seed: int
) -> pl.Series:
    if config.new_item_attribute is None:
        share = unit_hash(item_id.to_arrow(), seed + 1)
        return pl.Series(share < config.new_item_share)
    name = config.new_item_attribute
    kinds = items.collect_schema()
    if name not in kinds or not kinds[name].is_numeric():
        numeric = [n for n, kind in kinds.items() if kind.is_numeric()]
        raise UserError(
            f"new_item_attribute is {name!r}, which is no numeric attribute of an item. "
            f"There are: {', '.join(numeric) or 'none'}."
        )
    value = (
        pl.DataFrame({schema.ITEM_ID: item_id})
        .join(
            items.group_by(schema.ITEM_ID).agg(pl.col(name).min()).collect(),
            on=schema.ITEM_ID,
            how="left",
            maintain_order="left",
        )
        .get_column(name)
    )
    border = value.quantile(1 - config.new_item_share, interpolation="lower")
    return (value > border).fill_null(False)


def _row_hash(rows: pl.DataFrame, user_id: pl.Series, item_id: pl.Series, seed: int) -> pl.Series:
    """Return a stable number for each (user, item), independent from user to user."""
    of_user, of_item = (
        (unit_hash(ids.to_arrow(), seed + shift) * 2**53).astype(np.uint64)
        for ids, shift in ((user_id, 2), (item_id, 3))
    )
    mixed = splitmix64(of_user)[rows[USER].to_numpy()] ^ of_item[rows[ITEM].to_numpy()]
    return pl.Series("hash", splitmix64(mixed))


def _objective(interactions: pl.LazyFrame, config: SplitConfig) -> tuple[Objective, list[str]]:
    kinds = (
        interactions.select(pl.col(schema.EVENT).unique().sort()).collect().to_series().to_list()
    )
    objective: Objective
    if config.objective == "auto":
        objective = "rating" if RATING_EVENT in (config.events or kinds) else "implicit"
    else:
        objective = config.objective
    if config.events is not None:
        unknown = sorted(set(config.events) - set(kinds))
        if unknown:
            raise UserError(f"the log has no event {unknown[0]!r}. There are: {', '.join(kinds)}.")
        return objective, list(config.events)
    return objective, [RATING_EVENT] if objective == "rating" else kinds


def _is_temporal(interactions: pl.LazyFrame, config: SplitConfig) -> bool:
    if config.split in ("random", "melu_states"):
        return False
    without = interactions.select(pl.col(schema.TIMESTAMP).is_null().any()).collect().item()
    if without and config.split == "temporal":
        raise UserError(
            "a temporal split needs a time on every interaction, and some have none: ingest the "
            "log with its time column, or choose split = 'random'."
        )
    return not without
