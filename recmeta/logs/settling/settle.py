"""Deduplicates a part of a source in itself and against the table, and writes its new rows into a
file."""

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import polars as pl

from recmeta.logs.checking import conflicts
from recmeta.logs.checking.conflicts import KEY
from recmeta.logs.checking.tally import Tally
from recmeta.logs.settling.next_version import NextVersion
from recmeta.logs.settling.parts import Part, Parts
from recmeta.logs.settling.stored import FILE_NUMBER, NONE_STORED, ROW, StoredRows

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettledPart:
    """What happened to the rows of a part."""

    num_accepted: int
    num_duplicates: int
    superseded: pl.DataFrame
    """Rows for the quarantine."""
    replaced: pl.DataFrame
    """FILE_NUMBER and ROW of the table's rows that rows of the part replace."""


def each_part(parts: Parts, work: Callable[[Part], T]) -> Iterator[T]:
    """Yield a function's result for each part; if there are many, several are worked on at a
    time."""
    if parts.are_kept:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(parts.budget.workers) as pool:
        yield from pool.map(work, parts)


def settle(part: Part, tally: Tally) -> tuple[conflicts.Settled, SettledPart]:
    """Keep one row per key of a part, and count the kept rows.

    Returns:
        The rows that are kept, and what happened to the others.
    """
    settled = conflicts.settle(part.rows())
    tally.add_settled(settled.encoded)
    return settled, SettledPart(
        num_accepted=settled.encoded.height,
        num_duplicates=settled.num_duplicates,
        superseded=conflicts.superseded(part.with_texts(settled.superseded)),
        replaced=NONE_STORED.select(FILE_NUMBER, ROW),
    )


def settle_into(
    part: Part,
    tally: Tally,
    stored: StoredRows,
    version: NextVersion,
    source_id: str,
    now: datetime.datetime,
) -> SettledPart:
    """Settle a part, compare it with the table, and write its new rows into a file.

    Args:
        now: becomes `ingested_at`.
    """
    settled, found = settle(part, tally)
    if not stored.files:
        version.add(settled.encoded, source_id, now)
        return found
    rows = settled.rows
    changes = conflicts.compare(rows, stored.of(part, rows.select(KEY)))
    version.add(changes.accepted, source_id, now)
    return dataclasses.replace(
        found,
        num_accepted=changes.accepted.height,
        num_duplicates=found.num_duplicates + changes.num_duplicates,
        replaced=changes.replaced.select(FILE_NUMBER, ROW),
    )
