"""Training episodes: a seeded order of tasks, support sizes and negatives, without a Python loop
over users."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from recmeta.tasks.arrays import Float64Array, IntArray, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeConfig:
    """How meta-training presents a user's interactions."""

    batch_size: int = 16
    """The number of tasks per outer step."""
    resample: bool = True
    """Whether support and query are drawn from all of the user's rows in every epoch, with a
    uniform size of the support from 0 to `max_support`. If false, the split of the task set is
    kept."""
    max_support: int = 20
    """The largest support of a resampled episode, in rows."""
    max_query: int = 32
    """The largest query of an episode, in rows; further rows are dropped at random."""
    min_rows: int = 5
    """Users with fewer rows are not presented in training, as long as the other users have half of
    all rows; otherwise the limit is lowered. Where most users have a row or two, their episodes,
    which have no support, would outweigh those from which adapting is learned. Their rows still
    count in factorisations and item statistics."""
    most_users: int | None = None
    """The most users of an epoch, who are drawn anew for each; if not set, every epoch presents all
    users. On a log of millions of users, a model may have learned all it can long before it has
    seen all of them once."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_query", "most_users"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("max_support", "min_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative.")


def epoch(
    tasks: Tasks,
    config: EpisodeConfig,
    generator: np.random.Generator,
    *,
    in_order: bool = False,
    wanted: Callable[[int], IntArray] = np.arange,
) -> Iterator[tuple[IntArray, Tasks]]:
    """Yield the positions in `tasks` and the episodes of each batch: every task that is long enough
    once, or as many as the configuration says, in a random order.

    Args:
        in_order: whether a resampled support is a piece of the user's history, and its query comes
            later; see `window`.
        wanted: returns, for the size of a batch, the places whose episodes to yield. They are the
            same as in the whole batch.
    """
    presented = _presented(tasks, config.min_rows)
    order = presented[generator.permutation(len(presented))][: config.most_users]
    num_support, num_query = tasks.support.lengths, tasks.query.lengths
    for start in range(0, len(order), config.batch_size):
        positions = order[start : start + config.batch_size]
        places = wanted(len(positions))
        batch = tasks.take(positions[places])
        query_B = num_query[positions]
        among = Among(num_support[positions] + query_B, places)
        if config.resample:
            batch = (window if in_order else resample)(batch, config, generator, among)
        elif query_B.max(initial=0) > config.max_query:
            shuffled = _shuffled(batch.query, _drawn(generator, query_B, places))
            batch = dataclasses.replace(batch, query=shuffled.first(config.max_query))
        yield positions, batch


def _presented(tasks: Tasks, min_rows: int) -> IntArray:
    """Return the positions of the tasks with at least `min_rows` rows, or with a lower limit that
    keeps half of all rows."""
    length_B = tasks.support.lengths + tasks.query.lengths
    least = min_rows
    while least > 0 and 2 * length_B[length_B >= least].sum() < max(length_B.sum(), 1):
        least -= 1
    return np.flatnonzero(length_B >= least)


@dataclasses.dataclass(frozen=True)
class Among:
    """A batch, for some of whose tasks episodes are drawn."""

    length_B: IntArray
    """(B,) the number of rows of each task of the batch."""
    place_b: IntArray
    """(b,) the places of those tasks in the batch."""


def resample(
    tasks: Tasks,
    config: EpisodeConfig,
    generator: np.random.Generator,
    among: Among | None = None,
) -> Tasks:
    """Return the same users with a fresh random support and query from all of their rows.

    The support's size is uniform from 0 to `max_support`, or to the number of the user's rows minus
    one if that is smaller.

    Args:
        among: the batch that the tasks are part of, or None if they are all of it.
    """
    rows = tasks.rows
    among = among or Among(rows.lengths, np.arange(len(rows)))
    rows = _shuffled(rows, _drawn(generator, among.length_B, among.place_b))
    most = np.minimum(config.max_support, np.maximum(among.length_B - 1, 0))
    num_support = generator.integers(0, most + 1)[among.place_b]
    boundary = num_support[rows.task]
    support = rows.select(rows.position < boundary)
    query = rows.select((rows.position >= boundary) & (rows.position < boundary + config.max_query))
    return dataclasses.replace(tasks, support=support, query=query)


def window(
    tasks: Tasks,
    config: EpisodeConfig,
    generator: np.random.Generator,
    among: Among | None = None,
) -> Tasks:
    """Return the same users with a random piece of their history as support, in its order, and a
    random query from the rows after it.

    The support's size is drawn as in `resample`, then the place of its first row, uniformly among
    those that leave a row for the query.

    Args:
        tasks: the users; the rows of support and query, in this order, are their histories.
        among: the batch that the tasks are part of, or None if they are all of it.
    """
    rows = tasks.rows
    among = among or Among(rows.lengths, np.arange(len(rows)))
    most = np.minimum(config.max_support, np.maximum(among.length_B - 1, 0))
    num_support_B = generator.integers(0, most + 1)
    first_B = generator.integers(0, np.maximum(among.length_B - num_support_B, 1))
    later_B = np.maximum(among.length_B - first_B - num_support_B, 0)
    place = rows.position - first_B[among.place_b][rows.task]
    boundary = num_support_B[among.place_b][rows.task]
    drawn = _drawn(generator, later_B, among.place_b)
    later = _shuffled(rows.select(place >= boundary), drawn)
    return dataclasses.replace(
        tasks,
        support=rows.select((place >= 0) & (place < boundary)),
        query=later.first(config.max_query),
    )


def with_negatives(
    positives: Ragged, known: Ragged, num_items: int, num_negatives: int, salt: int = 0
) -> Ragged:
    """Return the rows (value 1) followed by sampled items that are not in `known` (value 0).

    The draw is a hash of the row's item (how often the user met it before, if at all) and `salt`,
    not a generator's state, so that a user's negatives do not depend on who else is in the batch,
    and a row's negatives do not depend on the user's other rows: if one of them is left out, the
    others keep their draws. Candidates that are known items of the user are dropped, so that a row
    can have fewer than `num_negatives`.

    Args:
        positives: the rows to keep, all positive.
        known: every row of the same tasks whose item must not be drawn.
        num_items: items are drawn uniformly from 0 to this number, exclusive.
        num_negatives: the number of candidates per positive row.
        salt: a different number in every epoch gives fresh negatives.
    """
    shape = (len(positives.item), num_negatives)
    seed = np.multiply(positives.item.astype(np.uint64)[:, None], 1_000_003, dtype=np.uint64)
    seed = seed + _times_met_before(positives).astype(np.uint64)[:, None] * np.uint64(8_191)
    seed = seed + np.arange(num_negatives, dtype=np.uint64) + (np.uint64(salt) << np.uint64(32))
    drawn = (splitmix64(seed) % np.uint64(num_items)).astype(np.int32).reshape(-1)
    task = np.broadcast_to(positives.task[:, None], shape).reshape(-1)
    fresh = ~np.isin(task * num_items + drawn, known.task * num_items + known.item)
    task, drawn = task[fresh], drawn[fresh]
    lengths = np.bincount(task, minlength=len(positives))
    negatives = Ragged(
        offsets_of(lengths),
        drawn,
        np.zeros(len(drawn), np.float32),
        np.zeros(len(drawn), np.bool_),
    )
    return positives.followed_by(negatives)


def _times_met_before(rows: Ragged) -> IntArray:
    """Return, for each row, the number of earlier rows of its task with the same item."""
    order = np.lexsort((rows.item, rows.task))  # a stable sort keeps equal pairs in order
    same = (np.diff(rows.item[order]) == 0) & (np.diff(rows.task[order]) == 0)
    is_first = np.concatenate([np.ones(min(1, len(order)), np.bool_), ~same])
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    before = np.empty(len(order), np.int64)
    before[order] = np.arange(len(order)) - first
    return before


def splitmix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of each number (Steele, Lea, Flood, OOPSLA 2014); the same on every machine."""
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _drawn(generator: np.random.Generator, length_B: IntArray, place_b: IntArray) -> Float64Array:
    """Return a random number for each row of some of a batch's tasks."""
    drawn = generator.random(int(length_B.sum()))
    if len(place_b) == len(length_B):  # all tasks, in order
        return drawn
    first_b, rows_b = (np.cumsum(length_B) - length_B)[place_b], length_B[place_b]
    within = np.arange(rows_b.sum()) - np.repeat(np.cumsum(rows_b) - rows_b, rows_b)
    own: Float64Array = drawn[np.repeat(first_b, rows_b) + within]
    return own


def _shuffled(rows: Ragged, drawn: Float64Array) -> Ragged:
    order = np.lexsort((drawn, rows.task))
    return Ragged(
        rows.offsets - rows.offsets[0], rows.item[order], rows.value[order], rows.counted[order]
    )
