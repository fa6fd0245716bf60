"""New users' few interactions, as tasks for a model."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmeta import schema
from recmeta.errors import UserError, did_you_mean, listed, shown
from recmeta.metalearn.model import Model
from recmeta.serving.spelling import numbers_of, of_title
from recmeta.tasks.arrays import BoolArray, Float32Array, IntArray, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True)
class NewUserCounts:
    """What happened to the rows of the input."""

    rows: int
    """Interactions that were read."""
    users: int
    """Distinct users, each of whom gets a list."""
    used: int
    """Interactions that the users are adapted to."""
    duplicates: int
    """Rows dropped because a later row has the same user and item."""
    unknown_items: int
    """Rows dropped because the item is not in the model's catalogue."""
    bad_values: int
    """Rows dropped because the value is missing, not finite or outside the model's range; of
    implicit feedback, because it is 0 or less."""
    without_interactions: int
    """Users who are left without interactions: they get the list of a user without any."""
    without_profile: int
    """Users who have no row among the profiles."""


def tasks_for_new_users(
    model: Model, interactions: pa.Table, profiles: pa.Table | None = None
) -> tuple[Tasks, NewUserCounts]:
    """Return a task per user, sorted by user id, with all usable interactions as support.

    Args:
        interactions: `user_id`, `item_id`, for ratings `value`, which else is optional, and
            optionally `timestamp`; a row whose item is null only names a user. Where there are no
            times, the file's order is the order.
        profiles: `user_id` and raw attributes; users who are only here get an empty support.

    Raises:
        UserError: for a missing column or a null user id.
    """
    for name in (schema.USER_ID, schema.ITEM_ID):
        _require(interactions, name)
    graded = model.objective == "rating"
    if graded:
        _require(interactions, schema.VALUE)
    user_id = _ids(interactions, schema.USER_ID)
    item_id = _ids(interactions, schema.ITEM_ID)
    if user_id.null_count:
        row = int(np.argmax(user_id.is_null().to_numpy(zero_copy_only=False))) + 1
        raise UserError(f"row {row} of the new users has no {schema.USER_ID}: give it one.")
    everyone = user_id
    profile_id = pa.array([], pa.string())
    if profiles is not None:
        _require(profiles, schema.USER_ID)
        profile_id = _ids(profiles, schema.USER_ID)
        everyone = pa.concat_arrays([user_id, profile_id.drop_null()])
    users = pc.unique(everyone).sort()
    profile_place = pc.index_in(users, profile_id)
    user = pc.index_in(user_id, users).to_numpy().astype(np.int64)
    item = numbers_of(model.catalogue.lookup, item_id)
    value, good = np.ones(len(user), np.float32), np.ones(len(user), np.bool_)
    if graded:
        value = _numbers(interactions, schema.VALUE)
        good = _is_good(model, value)
    elif schema.VALUE in interactions.column_names:
        good = ~(_numbers(interactions, schema.VALUE) <= 0)  # one that is missing is no return
    time: npt.NDArray[np.number] = np.zeros(len(user), np.int64)
    if schema.TIMESTAMP in interactions.column_names:
        time = _order(interactions[schema.TIMESTAMP].combine_chunks())

    named = item_id.is_valid().to_numpy(zero_copy_only=False)
    known = item >= 0
    support, num_duplicates = _support(len(users), user, item, value, time, known & good)
    counts = NewUserCounts(
        rows=int(named.sum()),
        users=len(users),
        used=len(support.item),
        duplicates=num_duplicates,
        unknown_items=int((named & ~known).sum()),
        bad_values=int((named & known & ~good).sum()),
        without_interactions=int((support.lengths == 0).sum()),
        without_profile=profile_place.null_count,
    )
    tasks = _tasks(model, _profiles(users, profiles, profile_place), support)
    return tasks, counts


def unknown_items(model: Model, interactions: pa.Table, most: int) -> list[str]:
    """Return the first ids of items that the model does not know, up to a maximum number."""
    item_id = pc.unique(_ids(interactions, schema.ITEM_ID).drop_null())
    is_unknown = pa.array(numbers_of(model.catalogue.lookup, item_id) < 0)
    found: list[str] = item_id.filter(is_unknown)[:most].to_pylist()
    return found


def unused_rows(
    model: Model, counts: NewUserCounts, bad: Mapping[str, int], unknown: Sequence[str]
) -> str:
    """Return a sentence about the interactions that were not used and why; empty if there are none.

    Args:
        bad: how many rows could not be read, by what is wrong with them.
        unknown: some items that the model does not know.
    """
    low, high = model.value_range
    of_values = (
        f"whose value is not a number from {low:g} to {high:g}"
        if model.objective == "rating"
        else "whose value is 0 or less"
    )
    named = f" (such as {_named(model, unknown)})" if unknown else ""
    reasons = {
        f"of items that the model does not know{named}": counts.unknown_items,
        of_values: counts.bad_values,
        "which later ones of the same user and item replace": counts.duplicates,
        **bad,
    }
    num_unused = sum(reasons.values())
    if not num_unused:
        return ""
    reasons_given = "; ".join(f"{number:,} {why}" for why, number in reasons.items() if number)
    given = counts.rows + sum(bad.values())
    return f"{num_unused:,} of {given:,} interactions were not used: {reasons_given}."


def left_with_none(counts: NewUserCounts) -> str:
    """Return a sentence about the users who are left without an interaction; empty if there are
    none."""
    if not counts.without_interactions:
        return ""
    if not counts.used:
        return "Nothing is left to adapt to, so lists are those of users without interactions."
    if counts.without_interactions == 1:
        return "1 user has none left."
    return f"{counts.without_interactions:,} users have none left."


def _named(model: Model, unknown: Sequence[str]) -> str:
    """Return a message that names unknown items by their ids, or says that they are titles."""
    meant = of_title(model.catalogue.items, unknown[0])
    if meant is not None:
        return f"{shown(unknown[0])}, which is the title of the item {shown(meant)}"
    some = ", ".join(shown(one) for one in model.catalogue.items.item_id[:2].to_pylist())
    return f"{', '.join(shown(item_id) for item_id in unknown)}; those that it knows are as {some}"


def tasks_of_rows(
    model: Model,
    profile: pa.Table,
    user: IntArray,
    item: IntArray,
    value: Float32Array | None,
    time: IntArray,
) -> Tasks:
    """Return a task per user, by the rules of `tasks_for_new_users`, of rows that are numbers.

    Args:
        profile: (B rows) `user_id` and raw attributes.
        user: (N,) each row's place in the profiles.
        item: (N,) numbers; -1 for an unknown one.
        value: (N,) None for implicit feedback.
        time: (N,) later is greater.
    """
    usable = item >= 0
    if value is None:
        value = np.ones(len(user), np.float32)
    else:
        usable = usable & _is_good(model, value)
    support, _ = _support(profile.num_rows, user, item, value, time, usable)
    return _tasks(model, profile, support)


def _is_good(model: Model, value: Float32Array) -> BoolArray:
    low, high = model.value_range
    good: BoolArray = np.isfinite(value) & (value >= low) & (value <= high)
    return good


def _support(
    num_users: int,
    user: IntArray,
    item: IntArray,
    value: Float32Array,
    time: npt.NDArray[np.number],
    usable: BoolArray,
) -> tuple[Ragged, int]:
    """Return the usable rows in the order of time, the last of each user and item, and how many
    earlier ones there are."""
    place = np.flatnonzero(usable)
    order = place[np.lexsort((place, time[place], user[place]))]
    kept = order[_is_last(user[order], item[order])]
    lengths = np.bincount(user[kept], minlength=num_users)
    support = Ragged(
        offsets_of(lengths),
        item[kept].astype(np.int32),
        value[kept],
        np.zeros(len(kept), np.bool_),
    )
    return support, len(order) - len(kept)


def _tasks(model: Model, profile: pa.Table, support: Ragged) -> Tasks:
    """Return tasks as of the end of the model's log, with nothing to predict."""
    num_users = len(support)
    nothing = Ragged(
        np.zeros(num_users + 1, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.float32),
        np.zeros(0, np.bool_),
    )
    return Tasks(
        profile,
        np.full(num_users, schema.END_OF_TIME),
        np.full(num_users, len(model.catalogue.statistics.time) - 1, np.int32),
        np.full(num_users, "user_cold"),
        support,
        nothing,
    )


def _require(table: pa.Table, name: str) -> None:
    if name not in table.column_names:
        raise UserError(
            f"the new users have no column {name!r}.{did_you_mean(name, table.column_names)} "
            f"There are: {listed(table.column_names)}."
        )


def _ids(table: pa.Table, name: str) -> pa.Array:
    """Return a column of ids as stripped strings, empty ones null."""
    column = table[name].combine_chunks()
    try:
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    except pa.ArrowException as error:
        raise UserError(
            f"the column {name!r} of the new users holds {column.type}; an id is text or a number."
        ) from error
    return pc.if_else(pc.equal(text, ""), None, text)


def _numbers(table: pa.Table, name: str) -> Float32Array:
    column = table[name].combine_chunks()
    try:
        numbers = column.cast(pa.float32())
    except pa.ArrowException as error:
        raise UserError(
            f"the column {name!r} of the new users is not numeric: {error!s:.200}"
        ) from error
    return np.asarray(pc.fill_null(numbers, float("nan")).to_numpy(), np.float32)


def _order(time: pa.Array) -> npt.NDArray[np.number]:
    """Return numbers that order the rows as their times do; rows without a time come first."""
    if pa.types.is_floating(time.type):
        return np.asarray(pc.fill_null(time.cast(pa.float64()), -np.inf).to_numpy())
    moments = time if pa.types.is_integer(time.type) else _moments(time)
    earliest = schema.ALWAYS
    return np.asarray(pc.fill_null(moments.cast(pa.int64()), earliest).to_numpy())


def _moments(time: pa.Array) -> pa.Array:
    """Return times that are dates, timestamps or ISO 8601 text as timestamps."""
    if pa.types.is_timestamp(time.type):
        return time
    try:
        return time.cast(pa.timestamp("us", tz="UTC"))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # text without a zone
    try:
        return time.cast(pa.timestamp("us"))
    except pa.ArrowException as error:
        raise UserError(
            f"the column {schema.TIMESTAMP!r} of the new users does not hold times: {error}. Give "
            "numbers, or text such as 2024-05-01T12:30:00Z."
        ) from error


def _is_last(user: IntArray, item: IntArray) -> BoolArray:
    """Return which rows have no later row of the same user and item."""
    order = np.lexsort((np.arange(len(user)), item, user))
    same = (np.diff(user[order]) == 0) & (np.diff(item[order]) == 0)
    last = np.ones(len(user), np.bool_)
    last[order[:-1][same]] = False
    return last


def _profiles(users: pa.Array, profiles: pa.Table | None, place: pa.Array) -> pa.Table:
    """Return a row for each user, from these places of the profiles; null is none."""
    columns = {schema.USER_ID: users}
    if profiles is not None:
        for name in profiles.column_names:
            if name != schema.USER_ID:
                columns[name] = profiles[name].combine_chunks().take(place)
    return pa.table(columns)
