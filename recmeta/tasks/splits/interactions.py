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

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError
from recmeta.progress import Progress, silent
from recmeta.tasks.episodes import splitmix64
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.placed_rows import NO_TIME, PlacedRows
from recmeta.tasks.placement import (
    COLD,
    DEV,
    ROW,
    TRAIN,
    IntArray,
    Placement,
    Rows,
    place_rows,
)
from recmeta.tasks.row_files import RowFiles
from recmeta.tasks.split_config import SplitConfig
from recmeta.tasks.split_rows import SplitRows, put_away
from recmeta.tasks.splits.id_counts import count_ids
from recmeta.tasks.task_set import Objective
from recmeta.tasks.threads import in_threads

RATING_EVENT = "rating"
ROWS_PER_PART = 2**20
"""About how many rows a thread places at once, at some 200 bytes each. A user is in one part,
whatever its length."""
ROWS_PER_BATCH = 2**19
"""Rows whose ids become numbers at once."""


def split_interactions(
    interactions: pl.LazyFrame,
    item_id: pl.Series,
    items: pl.LazyFrame,
    config: SplitConfig,
    seed: int,
    *,
    progress: Progress = silent,
) -> SplitRows:
    """Give every interaction its place.

    The log is read as a stream. Its rows, ids become numbers, go to temporary files by ranges of
    users, and each range is then placed by itself.

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
    user_id, lengths = count_ids(chosen.select(schema.USER_ID))
    if len(user_id) == 0:
        raise UserError(
            f"the workspace has no interaction of the kinds {events}: ingest a log first, or "
            "change `events`."
        )
    part = _parts(lengths)
    num_rows, num_parts = int(lengths.sum()), int(part[-1]) + 1
    files, num_read = RowFiles(), 0
    progress("reading", 0, num_rows)
    for batch in _numbered(chosen, user_id, item_id, objective, events):
        _put_aside(files, batch, part)
        num_read += len(batch)
        progress("reading", num_read, num_rows)
    progress("placing", 0, num_parts)
    placement = _placement(user_id, item_id, items, config, seed, temporal)

    def work(number: int) -> PlacedRows:
        rows: Rows = files.read(_file(number), ROW)
        files.remove(_file(number))
        return put_away(files, number, place_rows(rows, placement))

    parts: list[PlacedRows] = []
    for placed in in_threads(work, range(num_parts)):
        parts.append(placed)
        progress("placing", len(parts), num_parts)
    if not any(len(found.place) for found in parts):
        raise UserError(
            f"no user has between {config.min_interactions} and "
            f"{config.max_interactions or 'any number of'} interactions: loosen "
            "min_interactions and max_interactions."
        )
    return SplitRows(
        user_id=user_id.to_arrow().cast(pa.string()),
        objective=objective,
        temporal=temporal,
        parts=parts,
        files=files,
    )


def _parts(lengths: IntArray) -> IntArray:
    """Return the part of each user (U,), from 0: neighbours, of about ROWS_PER_PART rows in all."""
    before = lengths.cumsum() - lengths
    _, part = np.unique(before // ROWS_PER_PART, return_inverse=True)
    return part.astype(np.int64)


def _numbered(
    chosen: pl.LazyFrame,
    user_id: pl.Series,
    item_id: pl.Series,
    objective: Objective,
    events: list[str],
) -> Iterator[Rows]:
    """Yield the rows (N,) of ROW, in no order, a batch at a time."""
    value = pl.col(schema.VALUE) if objective == "rating" else pl.lit(1.0)
    columns = chosen.select(
        time=pl.col(schema.TIMESTAMP).dt.timestamp("us").fill_null(NO_TIME),
        # An Enum finds the number of an id in one look-up, faster than a join on the id does.
        user=pl.col(schema.USER_ID).cast(pl.Enum(user_id)).to_physical(),
        item=pl.col(schema.ITEM_ID).cast(pl.Enum(item_id)).to_physical(),
        value=value.cast(pl.Float32),
        kind=pl.col(schema.EVENT).cast(pl.Enum(sorted(events))).to_physical(),
    )
    for batch in columns.collect_batches(
        chunk_size=ROWS_PER_BATCH, maintain_order=False, engine="streaming"
    ):
        rows = np.empty(len(batch), ROW)
        for name in ROW.names or ():
            rows[name] = batch[name].to_numpy()
        yield rows


def _put_aside(files: RowFiles, rows: Rows, part: IntArray) -> None:
    """Append rows to the files of their users' parts."""
    part_of_row = part[rows["user"]].astype(np.uint16)  # numpy sorts 16 bits in linear time
    if part[-1]:
        rows = rows.take(np.argsort(part_of_row, kind="stable"))
    counts = np.bincount(part_of_row)
    ends = counts.cumsum()
    for number in np.flatnonzero(counts).tolist():
        files.append(_file(number), rows[ends[number] - counts[number] : ends[number]])


def _file(number: int) -> str:
    return f"rows-{number}"


def _placement(
    user_id: pl.Series,
    item_id: pl.Series,
    items: pl.LazyFrame,
    config: SplitConfig,
    seed: int,
    temporal: bool,
) -> Placement:
    share = unit_hash(user_id.to_arrow(), seed)
    place = np.select(
        [share < config.test_share, share < config.test_share + config.dev_share],
        [COLD, DEV],
        TRAIN,
    )
    new_item = None
    if config.split == "melu_states":
        new_item = _new_items(item_id, items, config, seed).to_numpy()
    of_user, of_item = (
        (unit_hash(ids.to_arrow(), seed + shift) * 2**53).astype(np.uint64)
        for ids, shift in ((user_id, 2), (item_id, 3))
    )
    return Placement(
        config=config,
        temporal=temporal,
        place=place.astype(np.uint8),
        new_item=new_item,
        user_hash=splitmix64(of_user),
        item_hash=of_item,
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
