"""Rows that were refused only for a time in the future, once their time has come.

However many there are, no more than a part of them is in memory at a time.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator

import polars as pl
from deltalake import DeltaTable

from recmeta.logs import tables
from recmeta.logs.checking import contracts
from recmeta.logs.checking.tally import Tally
from recmeta.logs.settling.budget import Budget
from recmeta.logs.settling.next_version import NextVersion
from recmeta.logs.settling.parts import Parts
from recmeta.logs.settling.publish import settle_all
from recmeta.logs.settling.quarantine import QuarantinedRows, blocks_of, replace_quarantine
from recmeta.schema import FILE, INTERACTIONS, LINE, QUARANTINE, RULES, SOURCE
from recmeta.workspace import Workspace

LINES_PER_RANGE = 2**16
"""Lines of a file that are read together."""
_RANGE = "range"


def take_in(workspace: Workspace, source_id: str, now: datetime.datetime, budget: Budget) -> int:
    """Move a source's rows whose only fault was a time in the future, which has now come, from the
    quarantine to the interactions; return how many there are.

    Raises:
        CommitFailedError: if another writer changed one of the tables meanwhile.
    """
    opened = tables.ingested(workspace)
    quarantine = opened[QUARANTINE]
    with (
        workspace.temporary_folder() as folder,
        NextVersion(workspace, opened[INTERACTIONS]) as version,
    ):
        parts, tally = Parts(folder, budget), Tally()
        due, others, contradicted = (
            QuarantinedRows(folder, name, budget.kept_bytes // 4)
            for name in ("due", "others", "contradicted")
        )
        for block in _due(quarantine, source_id, now, budget.rows_per_part):
            parts.add(block)
            tally.add(block)
            due.add(block)
        if not due.num_rows:
            return 0
        for block in blocks_of(quarantine, source_id):
            others.add(block.filter(~contracts.has_come_due(now)))
        settle_all(parts, tally, version, contradicted, source_id, now)
        left: list[Iterable[pl.DataFrame]] = [_Without(others, contradicted), contradicted]
        # Replaced rows are recorded first; accepted rows leave the quarantine last.
        if contradicted.num_rows:
            replace_quarantine(quarantine, source_id, [*left, due], now)
        if not version.changes_nothing:
            version.commit(tables.ONLY_NEXT)
        replace_quarantine(quarantine, source_id, left, now)
    return due.num_rows


def _due(
    quarantine: DeltaTable, source_id: str, now: datetime.datetime, most_rows: int
) -> Iterator[pl.DataFrame]:
    """Yield a source's rows whose time has come, in the order of its files and lines: those of one
    file at a time, at most about `most_rows` at once."""
    of_source = pl.scan_delta(quarantine).filter(pl.col(SOURCE) == source_id)
    due = of_source.filter(contracts.has_come_due(now)).with_columns(
        (pl.col(LINE) // LINES_PER_RANGE).alias(_RANGE)
    )
    ranges = due.group_by(FILE, _RANGE).len("rows").collect(engine="streaming")
    ranges = ranges.sort(FILE, _RANGE).with_columns(
        (pl.col("rows").cum_sum() // most_rows).alias("read")
    )
    for (_,), read in ranges.group_by("read", maintain_order=True):
        wanted = read.select(FILE, _RANGE).lazy()
        some = due.join(wanted, on=[FILE, _RANGE], how="semi", nulls_equal=True)
        found = some.drop(_RANGE).collect(engine="streaming").sort(FILE, LINE)
        yield from found.partition_by(FILE, maintain_order=True)


@dataclasses.dataclass(frozen=True)
class _Without:
    """Rows without those that are contradicted, which an attempt that was killed left there."""

    rows: QuarantinedRows
    contradicted: QuarantinedRows

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for rows in self.rows:
            for others in self.contradicted:
                rows = _difference(rows, others)
            yield rows


def _difference(rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not among others."""
    as_text = pl.col(RULES).list.join("\n").alias("rules_as_text")
    known = others.select(pl.exclude(RULES), as_text)
    found = rows.with_columns(as_text).join(known, on=known.columns, how="anti", nulls_equal=True)
    return found.select(rows.columns)
