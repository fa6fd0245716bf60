"""Tasks of the users whom new rows touch, on top of a task set that has all others."""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from recmeta import schema
from recmeta.features.item_statistics import snapshot_ranks, times_at
from recmeta.progress import Progress, silent
from recmeta.steps.parts.increments.log_changes import SIGN, InFull
from recmeta.steps.parts.task_building import (
    BuildTasksConfig,
    BuiltTasks,
    write_catalogue,
    write_split,
)
from recmeta.tasks.arrays import BoolArray, positions_of
from recmeta.tasks.increments.build_state import BuildState, Levels, read_levels, read_state
from recmeta.tasks.increments.build_state import write_state as write_build_state
from recmeta.tasks.increments.event_log import (
    Changes,
    EventLog,
    difference,
    with_changes,
    write_changes,
)
from recmeta.tasks.increments.parts import Numbers, Part
from recmeta.tasks.increments.tallies import (
    ItemTallies,
    can_be_exact,
    read_tallies,
    write_tallies,
)
from recmeta.tasks.increments.user_rows import UserRows, write_user_rows
from recmeta.tasks.item_files import ItemStatistics, read_items, write_statistics
from recmeta.tasks.placing.placed_rows import PLACES, ROW_COLUMNS, PlacedRows
from recmeta.tasks.placing.placement import ROW, TRAIN, Rows, place_rows
from recmeta.tasks.splits.ids import IdNumbers
from recmeta.tasks.splits.interactions import objective_of, placement_of
from recmeta.tasks.task_set import NEWER_FORMAT, SPLITS, Split, TaskSet, TaskSetSpec, write_spec
from recmeta.workspace import Folder, sealing

MOST_SHARE = 1.0
"""Rows of all increments' users, as a share of the base's rows. From this share on, the next build
is a full one, which merges the increments into a new base."""
MOST_INCREMENTS = 30
"""The most increments of a base, since a reader opens each of them."""
MOST_ROWS = 2**23
"""The most rows of the users of one increment, and of the log's files that were added or removed.
Both are held in memory, and take at most about 1 GB each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Before:
    """The tasks to which an increment adds."""

    tasks: TaskSet
    """The base, built in full with the same configuration."""
    name: str
    """The name of its folder."""
    counts: Mapping[str, int]
    """The counts of its manifest."""

    @property
    def parts(self) -> list[Part]:
        """The base and its increments, to be read without comparing digests: they were checked."""
        return [
            dataclasses.replace(part, folder=Folder(part.folder.filesystem, part.folder.path))
            for part in self.tasks.parts
        ]


def _check_size(parts: list[Part], num_more: int) -> None:
    """Raise InFull if the increments of a base have become too many or too large.

    Args:
        num_more: rows of the next one.
    """
    base, *increments = (int(UserRows(part.folder).num_rows.sum()) for part in parts)
    share = (sum(increments) + num_more) / max(base, 1)
    if share > MOST_SHARE:
        raise InFull(f"the increments would have {share:.0%} of the rows of their base")
    if num_more > MOST_ROWS:
        raise InFull(f"the users whom changes touch have {num_more:,} rows")
    if len(increments) >= MOST_INCREMENTS:
        raise InFull(f"the base has {len(increments)} increments")


def write_increment(
    config: BuildTasksConfig,
    before: Before,
    changes: pl.DataFrame,
    changed_users: pl.Series,
    users: pl.LazyFrame,
    items: pl.LazyFrame,
    folder: Folder,
    *,
    log_files: Collection[str],
    text_vectors: Folder,
    progress: Progress = silent,
) -> BuiltTasks:
    """Write the tasks of the users whom changes touch, and the data that depends on all users.

    Args:
        changes: see `changed_rows`.
        changed_users: ids of users whose attributes changed.
        users, items, text_vectors: see `write_tasks`.
        log_files: the files that the log's rows are in now.

    Raises:
        InFull: if that cannot be done, or not exactly.
    """
    parts = before.parts
    state = read_state(parts[-1].folder)
    _check_kinds(changes, state)
    progress("numbering", 0, 1)
    item_id, numbers = _item_ids(parts, changes, items)
    objective, events = objective_of(list(state.kinds), config.split)
    is_implicit = objective == "implicit"
    chosen = changes.filter(pl.col(schema.EVENT).is_in(events))
    if is_implicit:
        chosen = chosen.filter(pl.col(schema.VALUE) > 0)
    user_id = pl.concat([chosen[schema.USER_ID], changed_users]).unique().sort()
    rows = _rows_before(parts, user_id, numbers)
    after = _rows_after(rows, chosen, user_id, item_id, state, is_implicit=is_implicit)
    _check_size(parts, len(after))
    placement = placement_of(user_id, item_id, items, config.split, config.seed, "temporal")
    progress("placing", 0, 1)
    was, now = (place_rows(some, placement) for some in (rows, after))
    progress("statistics", 0, 1)
    gone, came = _differing(was, now, len(user_id))
    changed = difference(_events(gone), _events(came))
    tallies = _tallies(parts, numbers, changed, len(item_id), config)
    levels = read_levels(parts[-1].folder).plus(_levels(gone), -1).plus(_levels(came))
    levels = levels.with_values(np.unique(came.value))
    if not can_be_exact(levels.value, tallies.tally.real[-1].max(initial=0)):
        raise InFull("sums of the log's values depend on the order in which they are added")
    spec = _spec(before, was, now, len(item_id), levels, num_shards={})
    with sealing(folder) as place:
        write_statistics(place, tallies.rounded())
        write_tallies(place, tallies)
        write_changes(place, changed)
        write_catalogue(place, config, item_id, items, text_vectors)
        state = dataclasses.replace(state, files=tuple(sorted(log_files)))
        write_build_state(place, state, levels)
        progress("writing", 0, 1)
        ids = user_id.to_arrow().cast(pa.string())
        num_shards = _write_shards(place, now, ids, tallies.rounded(), users)
        write_user_rows(place, ids, [after.take(np.argsort(after["user"], kind="stable"))])
        write_spec(place, dataclasses.replace(spec, num_shards=num_shards))
    counts = {
        **{f"tasks_{name}": spec.num_tasks[name] for name in SPLITS},
        "users": before.counts["users"] + _num_users(now) - _num_users(was),
        "items": len(item_id),
        "interactions": spec.num_interactions,
    }
    if is_implicit:
        others = changes.filter(pl.col(schema.VALUE) <= 0)[SIGN].cast(pl.Int64)
        counts["not_positive"] = before.counts["not_positive"] + int(others.sum())
    return BuiltTasks(spec=spec, item_id=item_id, statistics=tallies.rounded(), counts=counts)


def _check_kinds(changes: pl.DataFrame, state: BuildState) -> None:
    """Raise InFull for changes that may concern all users."""
    new = set(changes[schema.EVENT].unique()) - set(state.kinds)
    if new:
        raise InFull(f"the log has a new kind of event, {min(new)!r}")
    if changes[schema.TIMESTAMP].null_count():
        raise InFull("rows without a time were added")
    is_new = pl.col(SIGN) > 0
    gone, came = changes.filter(~is_new)[schema.ITEM_ID], changes.filter(is_new)[schema.ITEM_ID]
    if not gone.is_in(came.unique().implode()).all():
        raise InFull("rows are gone from the log")


def _item_ids(
    parts: list[Part], changes: pl.DataFrame, items: pl.LazyFrame
) -> tuple[pl.Series, list[Numbers | None]]:
    """Return the sorted ids of all items, and by part the number of each of its items among them;
    None if it is the same."""
    known = pl.Series(read_items(parts[-1].folder).item_id)
    of_items = items.select(schema.ITEM_ID).collect().to_series()
    item_id = pl.concat([known, changes[schema.ITEM_ID], of_items]).unique().sort()
    ids = item_id.to_arrow().cast(pa.string())
    return item_id, [part.numbers_among(ids) for part in parts]


def _rows_before(
    parts: list[Part],
    user_id: pl.Series,
    numbers: list[Numbers | None],
) -> Rows:
    """Return the rows that the users had, each user's from the newest part that knows the user."""
    ids = user_id.to_arrow().cast(pa.string())
    left = np.arange(len(user_id))
    found: list[Rows] = []
    for part, number_I in zip(reversed(parts), reversed(numbers), strict=True):
        stored = UserRows(part.folder)
        positions = stored.positions_of(ids.take(pa.array(left)))
        known = positions >= 0
        rows = stored.rows(positions[known], left[known])
        if number_I is not None:
            rows["item"] = number_I[rows["item"]]
        found.append(rows)
        left = left[~known]
    return np.concatenate(found)


def _rows_after(
    rows: Rows,
    chosen: pl.DataFrame,
    user_id: pl.Series,
    item_id: pl.Series,
    state: BuildState,
    *,
    is_implicit: bool,
) -> Rows:
    """Return the rows that the users have now."""
    changes = np.empty(len(chosen), ROW)
    for name, column, ids in (
        ("user", schema.USER_ID, user_id),
        ("item", schema.ITEM_ID, item_id),
        ("kind", schema.EVENT, pl.Series(state.kinds)),
    ):
        changes[name] = IdNumbers(ids).of(chosen[column].to_arrow().cast(pa.string()))
    changes["time"] = chosen[schema.TIMESTAMP].dt.timestamp("us").to_numpy()
    changes["value"] = 1.0 if is_implicit else chosen[schema.VALUE].to_numpy()
    is_new = chosen[SIGN].to_numpy() > 0
    if not is_new.all():
        key = ["user", "item", "time", "kind"]
        gone = changes[~is_new]
        kept = _frame(rows, key).with_row_index().join(_frame(gone, key), on=key, how="anti")
        rows = rows.take(kept["index"].sort().to_numpy())
    return np.concatenate([rows, changes[is_new]])


def _frame(rows: Rows, columns: list[str]) -> pl.DataFrame:
    return pl.DataFrame({name: np.ascontiguousarray(rows[name]) for name in columns})


def _differing(was: PlacedRows, now: PlacedRows, num_users: int) -> tuple[PlacedRows, PlacedRows]:
    """Return the old and the new rows of tasks, without those that both have at the same place of a
    user's task.

    A row that is later than all earlier rows of the user, as most rows are, leaves those in their
    places.
    """
    sides = (was, now)
    first_U, length_U = np.zeros((2, 2, num_users), np.int64)
    for side, tasks in enumerate(sides):
        first_U[side, tasks.user], length_U[side, tasks.user] = tasks.offsets[:-1], tasks.num_kept
    both_U = length_U.min(0)
    within = positions_of(both_U)
    rows = [np.repeat(first_U[side], both_U) + within for side in (0, 1)]
    same = np.ones(len(within), np.bool_)
    for name in ROW_COLUMNS:
        before, after = (getattr(t, name).take(at) for t, at in zip(sides, rows, strict=True))
        same &= before == after
    found = []
    for tasks, at in zip(sides, rows, strict=True):
        is_left = np.ones(len(tasks.item), np.bool_)
        is_left[at[same]] = False
        found.append(_only(tasks, is_left))
    return found[0], found[1]


def _in_split(tasks: PlacedRows, split: Split) -> PlacedRows:
    """Return the tasks of a split."""
    places = [number for number, place in enumerate(PLACES) if place.split == split]
    first, last = np.searchsorted(tasks.place, [places[0], places[-1] + 1])
    return tasks.tasks(int(first), int(last))


def _num_users(tasks: PlacedRows) -> int:
    return len(np.unique(tasks.user))


def _write_shards(
    folder: Folder,
    tasks: PlacedRows,
    user_id: pa.Array,
    statistics: ItemStatistics,
    users: pl.LazyFrame,
) -> dict[str, int]:
    """Write the tasks of all splits, and return how many shards each has."""
    num_shards: dict[str, int] = {}
    for name in SPLITS:
        written = write_split(
            folder,
            name,
            [_in_split(tasks, name)],
            user_id,
            statistics,
            users,
            temporal=True,
            with_times=True,
        )
        num_shards[name] = sum(1 for _ in written)
    return num_shards


def _only(tasks: PlacedRows, is_left: BoolArray) -> PlacedRows:
    """Return the tasks with some of their rows, as query."""
    task = np.repeat(np.arange(len(tasks)), tasks.num_kept)[is_left]
    length = np.bincount(task, minlength=len(tasks)).astype(np.int32)
    rows = {name: getattr(tasks, name)[is_left] for name in ROW_COLUMNS}
    return dataclasses.replace(tasks, num_support=np.zeros_like(length), num_query=length, **rows)


def _events(tasks: PlacedRows) -> Changes:
    return Changes.came(tasks.time, tasks.item, tasks.value)


def _levels(tasks: PlacedRows) -> Levels:
    """Count the values of training tasks."""
    is_training = np.repeat(tasks.place == TRAIN, tasks.num_kept)
    return Levels.of([tasks.value[is_training]])


def _tallies(
    parts: list[Part],
    numbers: list[Numbers | None],
    changed: Changes,
    num_items: int,
    config: BuildTasksConfig,
) -> ItemTallies:
    """Return the items' statistics with the changes applied, at the current snapshots."""
    events, of_events = [], []
    for part, number_I in zip(parts, numbers, strict=True):
        of_part = part.events()
        events += of_part
        of_events += [number_I] * len(of_part)
    log = EventLog(events, of_events)
    whole = EventLog([*events, changed], [*of_events, None])
    ranks = snapshot_ranks(len(whole), num_items, config.statistics)
    times = times_at(ranks, whole.values_at)
    tallies = read_tallies(parts[-1].folder)
    moved = log.moved(tallies, tallies.of_items(numbers[-1], num_items), times)
    return with_changes(moved, changed)


def _spec(
    before: Before,
    was: PlacedRows,
    now: PlacedRows,
    num_items: int,
    levels: Levels,
    num_shards: dict[str, int],
) -> TaskSetSpec:
    spec = before.tasks.spec
    num_tasks: dict[str, int] = {
        name: spec.num_tasks[name] + len(_in_split(now, name)) - len(_in_split(was, name))
        for name in SPLITS
    }
    if not num_tasks["train"]:
        raise InFull("no user is left to meta-train on")
    return dataclasses.replace(
        spec,
        value_range=(float(levels.trained[0]), float(levels.trained[-1])),
        num_items=num_items,
        num_tasks=num_tasks,
        num_shards=num_shards,
        num_interactions=spec.num_interactions + len(now.item) - len(was.item),
        num_history_files=0,
        taken_from=levels.taken_from(spec.objective),
        increment_of=(*spec.increment_of, before.name),
        format_version=NEWER_FORMAT,
    )
