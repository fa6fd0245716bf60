"""The split of a log: the roles of users, and each interaction's place in support or query.

Users are divided into meta-train, development and cold test users by a stable hash of their ids, or
by the times of their first rows. Within a user:

    temporal     the first rows are support, the next ones query; later ones are left out, except
                 that a meta-training user keeps them all as query
    global-time  as temporal, but users who come after a cut are cold, and of all others only what
                 is before it is learned from: users and time are held out (see `global_time`)
    random       `query_size` rows drawn by a stable hash are query, all others support
    melu_states  as random, in the four states of Lee et al. (KDD 2019): items, too, are existing or
                 new; models train on existing users and items and are tested on the other three
                 states

Only the first event of a user with an item counts. For implicit feedback it is the first whose
value is above 0: a return, or a song that was played 0 times, is no positive.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset

from recmeta import schema
from recmeta.errors import UserError
from recmeta.progress import Progress, silent
from recmeta.tasks.arrays import BoolArray, IntArray
from recmeta.tasks.episodes import splitmix64
from recmeta.tasks.hashing import unit_hash
from recmeta.tasks.placing.placed_rows import NO_TIME, PlacedRows
from recmeta.tasks.placing.placement import COLD, DEV, ROW, TRAIN, Placement, Rows, place_rows
from recmeta.tasks.placing.row_files import RowFiles
from recmeta.tasks.placing.split_rows import SplitRows, put_away, raw_file
from recmeta.tasks.split_config import TEMPORAL, SplitConfig, SplitKind
from recmeta.tasks.splits.global_time import placed_by_time, placed_for_refit
from recmeta.tasks.splits.ids import IdCounts, IdNumbers, count_ids
from recmeta.tasks.task_set import Objective
from recmeta.tasks.threads import in_threads

USERS = "users"
ROWS_PER_PART = 2**18
"""The approximate number of rows that a thread places at once, at some 200 bytes each. All rows of
a user are in one part, however many there are."""
ROWS_PER_BATCH = 2**19
"""The number of rows whose ids are converted at once."""


def split_interactions(
    log: dataset.Dataset,
    item_id: pl.Series,
    items: pl.LazyFrame,
    config: SplitConfig,
    seed: int,
    *,
    keep_raw: bool = False,
    progress: Progress = silent,
) -> SplitRows:
    """Return the places of all interactions.

    The log is read as a stream. Its rows, with numbers in place of ids, go to temporary files by
    ranges of users, and each range is then placed on its own.

    Args:
        log: the `interactions` table. It is fastest if item and event are dictionary encoded.
        item_id: the sorted ids of the catalogue, with every item of `log`.
        items: the `items` table, which is read only for `new_item_attribute`.
        seed: the seed of the hashes that draw users, items and rows.
        keep_raw: whether to keep the raw rows of the log, for `SplitRows.raw`.

    Raises:
        UserError: if no row is left, or a temporal split is configured for a log without times.
    """
    kinds = count_ids(batch.column(0) for batch in _batches(log, [schema.EVENT])).ids
    objective, events = objective_of(kinds.to_list(), config)
    kind = _kind(log, config)
    chosen = _Chosen(
        log, IdNumbers(kinds), kinds.is_in(events).to_numpy(), positive=objective == "implicit"
    )
    files = RowFiles()
    users = count_ids(
        (batch.column(0) for batch in chosen.batches([schema.USER_ID])),
        keep=lambda codes: files.append(USERS, codes),
    )
    if len(users.ids) == 0:
        raise UserError(
            f"the workspace has no interaction of the kinds {events}"
            f"{' with a value above 0' if chosen.positive else ''}: ingest a log with rows, or "
            "change tasks.split.events."
            if events
            else "the workspace's table of interactions is empty: ingest a log with rows."
        )
    num_parts = _put_all_aside(chosen, files, users, item_id, progress)
    progress("placing", 0, num_parts)
    placement = placement_of(users.ids, item_id, items, config, seed, kind)
    if kind == "global-time":
        parted = (files.read(raw_file(number), ROW) for number in range(num_parts))
        placement = placed_by_time(placement, parted)
    refit = None if placement.until is None else placed_for_refit(placement)
    parts, refit_parts, refit_files = _place_all(
        files, num_parts, placement, refit, keep_raw=keep_raw, progress=progress
    )
    if not any(len(found.place) for found in parts):
        raise UserError(
            f"no user has between {config.min_interactions} and "
            f"{config.max_interactions or 'any number of'} interactions: loosen "
            "min_interactions and max_interactions."
        )
    found = SplitRows(
        user_id=users.ids.to_arrow().cast(pa.string()),
        objective=objective,
        kind=kind,
        parts=parts,
        files=files,
        kinds=tuple(kinds),
        num_raw_parts=num_parts if keep_raw else 0,
    )
    if refit is None:
        return found
    later = dataclasses.replace(found, parts=refit_parts, files=refit_files)
    return dataclasses.replace(found, refit=later)


def _batches(log: dataset.Dataset, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a log as a stream, reading ahead no further than the threads need."""
    found: Iterator[pa.RecordBatch] = log.to_batches(
        columns=columns, batch_size=ROWS_PER_BATCH, batch_readahead=4, fragment_readahead=2
    )
    return found


class _Chosen(NamedTuple):
    """The rows of a log that count."""

    log: dataset.Dataset
    kinds: IdNumbers
    """The numbers of all kinds in the log."""
    is_chosen: BoolArray
    """Whether each kind is chosen, by its number."""
    positive: bool
    """Whether values must be above 0 and then count as 1, because feedback is implicit."""

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows' columns and their events, a batch at a time."""
        wanted = [*columns, schema.EVENT]
        if self.positive and schema.VALUE not in columns:
            wanted.append(schema.VALUE)
        for batch in _batches(self.log, wanted):
            if self.positive:
                batch = batch.filter(pc.greater(batch.column(schema.VALUE), 0.0))
            if not self.is_chosen.all():
                kind = self.kinds.of(batch.column(len(columns)))
                batch = batch.filter(pa.array(self.is_chosen[kind]))
            yield batch


def _put_all_aside(
    chosen: _Chosen, files: RowFiles, users: IdCounts, item_id: pl.Series, progress: Progress
) -> int:
    """Append the rows, with numbers in place of ids, to the files of their users' parts, and return
    the number of parts.

    Args:
        files: has the codes of the rows' users, in the order of the log, which are then deleted.
    """
    part = _parts(users.counts)
    num_rows, num_read = int(users.counts.sum()), 0
    progress("reading", 0, num_rows)
    for batch in _numbered(chosen, files, users.number_of_code, item_id):
        _put_aside(files, batch, part)
        num_read += len(batch)
        progress("reading", num_read, num_rows)
    files.remove(USERS)
    return int(part[-1]) + 1


def _parts(lengths: IntArray) -> IntArray:
    """Return the part of each user (U,), from 0. A part has consecutive users with about
    ROWS_PER_PART rows in all."""
    before = lengths.cumsum() - lengths
    _, part = np.unique(before // ROWS_PER_PART, return_inverse=True)
    return part.astype(np.int64)


def _numbered(
    chosen: _Chosen,
    files: RowFiles,
    user_of_code: npt.NDArray[np.int32],
    item_id: pl.Series,
) -> Iterator[Rows]:
    """Yield the rows (N,) of ROW, in the order of the log, a batch at a time.

    Args:
        files: has the codes of the rows' users, in the order of the log.
    """
    items = IdNumbers(item_id)

    def work(numbered: tuple[int, pa.RecordBatch]) -> Rows:
        first, batch = numbered
        rows = np.empty(len(batch), ROW)
        times = batch.column(0).cast(pa.int64())
        rows["time"] = pc.fill_null(times, NO_TIME).to_numpy()
        rows["user"] = user_of_code.take(files.read(USERS, np.int32, first, first + len(batch)))
        rows["item"] = items.of(batch.column(1))
        rows["value"] = 1.0 if chosen.positive else batch.column(2).to_numpy()
        rows["kind"] = chosen.kinds.of(batch.column(3))
        return rows

    columns = [schema.TIMESTAMP, schema.ITEM_ID, schema.VALUE]
    return in_threads(work, _with_first_row(chosen.batches(columns)))


def _with_first_row(
    batches: Iterator[pa.RecordBatch],
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield each batch with the number of rows before it."""
    first = 0
    for batch in batches:
        yield first, batch
        first += len(batch)


def _put_aside(files: RowFiles, rows: Rows, part: IntArray) -> None:
    """Append rows to the files of their users' parts."""
    part_of_row = part[rows["user"]].astype(np.uint16)  # numpy sorts 16 bits in linear time
    if (
        part_of_row[1:] < part_of_row[:-1]
    ).any():  # the rows need no sorting, because a table is sorted by user
        rows = rows.take(np.argsort(part_of_row, kind="stable"))
    counts = np.bincount(part_of_row)
    ends = counts.cumsum()
    for number in np.flatnonzero(counts).tolist():
        files.append(raw_file(number), rows[ends[number] - counts[number] : ends[number]])


def _place_all(
    files: RowFiles,
    num_parts: int,
    placement: Placement,
    refit: Placement | None,
    *,
    keep_raw: bool,
    progress: Progress,
) -> tuple[list[PlacedRows], list[PlacedRows], RowFiles]:
    """Place the rows of each part, write them to files in place of the raw ones, and return the
    tasks without rows.

    Args:
        files: has the rows of each part under the name from `raw_file`.
        refit: the placement of users once the development users have chosen, if it differs.
        keep_raw: whether the raw rows are kept, too.

    Returns:
        All tasks, the training tasks of `refit`, if any, and the files that have their rows.
    """
    refit_files = RowFiles()

    def work(number: int) -> tuple[PlacedRows, PlacedRows | None]:
        rows: Rows = files.read(raw_file(number), ROW)
        if not keep_raw:
            files.remove(raw_file(number))
        placed = put_away(files, number, place_rows(rows, placement))
        if refit is None:
            return placed, None
        again = place_rows(rows, refit)
        first, last = np.searchsorted(again.place, [TRAIN, TRAIN + 1])
        return placed, put_away(refit_files, number, again.tasks(int(first), int(last)))

    parts: list[PlacedRows] = []
    refit_parts: list[PlacedRows] = []
    for placed, again in in_threads(work, range(num_parts)):
        parts.append(placed)
        if again is not None:
            refit_parts.append(again)
        progress("placing", len(parts), num_parts)
    return parts, refit_parts, refit_files


def placement_of(
    user_id: pl.Series,
    item_id: pl.Series,
    items: pl.LazyFrame,
    config: SplitConfig,
    seed: int,
    kind: SplitKind,
) -> Placement:
    """Return the placement of every user and item by hashes of their ids."""
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
        temporal=kind in TEMPORAL,
        place=place.astype(np.uint8),
        new_item=new_item,
        until=None,
        user_hash=splitmix64(of_user),
        item_hash=of_item,
    )


def _new_items(
    item_id: pl.Series, items: pl.LazyFrame, config: SplitConfig, seed: int
) -> pl.Series:
    """Return (I,) whether each item is new: by a hash, or by the highest values of an attribute."""
    if config.new_item_attribute is None:
        share = unit_hash(item_id.to_arrow(), seed + 1)
        return pl.Series(share < config.new_item_share)
    name = config.new_item_attribute
    kinds = items.collect_schema()
    if name not in kinds or not kinds[name].is_numeric():
        numeric = [n for n, kind in kinds.items() if kind.is_numeric()]
        raise UserError(
            f"new_item_attribute is {name!r}, which is not a numeric attribute of items. "
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


def objective_of(kinds: list[str], config: SplitConfig) -> tuple[Objective, list[str]]:
    """Return the objective, and the kinds of event that count.

    Args:
        kinds: the kinds in the log.
    """
    objective: Objective
    if config.objective == "auto":
        objective = "rating" if schema.RATING_EVENT in (config.events or kinds) else "implicit"
    else:
        objective = config.objective
    if config.events is not None:
        unknown = sorted(set(config.events) - set(kinds))
        if unknown:
            raise UserError(f"the log has no event {unknown[0]!r}. There are: {', '.join(kinds)}.")
        return objective, list(config.events)
    return objective, [schema.RATING_EVENT] if objective == "rating" else kinds


def _kind(log: dataset.Dataset, config: SplitConfig) -> SplitKind:
    """Return the kind of split: by default temporal if all rows have times.

    Raises:
        UserError: if a split needs times that some rows lack.
    """
    if config.split in ("random", "melu_states"):
        return config.split
    without = log.count_rows(filter=dataset.field(schema.TIMESTAMP).is_null()) > 0
    if config.split == "auto":
        return "random" if without else "temporal"
    if without:
        raise UserError(
            f"split = {config.split!r} needs a time on every interaction, and some have none: "
            "ingest the log with its time column, or choose split = 'random'."
        )
    return config.split
