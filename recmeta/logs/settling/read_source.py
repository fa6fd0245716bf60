"""The files of a source, read and checked, before anything is written to a table."""

import dataclasses
import datetime

import polars as pl

from recmeta.logs import tables
from recmeta.logs.checking import checked, conflicts
from recmeta.logs.checking.attributes import read_attributes
from recmeta.logs.checking.findings import Findings, check_times, findings
from recmeta.logs.checking.tally import Tally
from recmeta.logs.mapping import AttributeSource, LogMapping
from recmeta.logs.reading.files import Inputs
from recmeta.logs.reading.log_format import SourceFile
from recmeta.logs.settling.budget import Budget
from recmeta.logs.settling.parts import Parts
from recmeta.logs.settling.quarantine import QuarantinedRows
from recmeta.progress import Progress
from recmeta.schema import ITEMS, USERS, Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a log, divided by whether they keep every rule."""

    good: Parts
    bad: QuarantinedRows
    rejected: checked.Rejected
    """The faults of the bad rows."""
    tally: Tally
    """Counts of the good rows."""

    @property
    def num_rows(self) -> int:
        """How many were read."""
        return self.good.num_rows + self.bad.num_rows


def read_rows(
    mapping: LogMapping,
    files: list[SourceFile],
    now: datetime.datetime,
    progress: Progress,
    *,
    folder: str,
    budget: Budget,
) -> Rows:
    """Read and check the rows of a log.

    Args:
        now: as `contracts.check`.
        folder: for rows that do not fit into memory.

    Raises:
        UserError: if the mapping does not fit the files.
    """
    found = Rows(
        good=Parts(folder, budget),
        bad=QuarantinedRows(folder, "bad", budget.kept_bytes // 4),
        rejected=checked.Rejected(),
        tally=Tally(mapping.earliest_time),
    )
    for good, bad in checked.read_blocks(mapping, files, now, progress, raw_as_text=False):
        found.tally.add(good)
        found.good.add(good)
        found.rejected.add(bad)
        found.bad.add(bad)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadSource:
    """The contents of a source's files."""

    mapping: LogMapping
    rows: Rows
    users: pl.DataFrame
    items: pl.DataFrame
    bad_entities: pl.DataFrame
    """Rows of users and items without a readable id."""
    passed_over: tuple[str, ...]
    """Sentences on lines that are not rows."""

    @classmethod
    def of(cls, mapping: LogMapping, inputs: Inputs, rows: Rows) -> "ReadSource":
        """Add the attributes to the rows of a log.

        Raises:
            UserError: if most times are implausibly old, or the attributes cannot be read.
        """
        check_times(mapping, rows.tally)
        users, bad_users = _entities(mapping.users, inputs.users, USERS)
        items, bad_items = _entities(mapping.items, inputs.items, ITEMS)
        return cls(
            mapping=mapping,
            rows=rows,
            users=users,
            items=items,
            bad_entities=pl.concat([bad_users, bad_items]),
            passed_over=checked.passed_over(inputs.log),
        )

    def findings(self, num_quarantined: int) -> tuple[Findings, tuple[str, ...]]:
        """Return the figures of the log, and sentences on what is perhaps not as intended. Call it
        once the rows are settled.

        Args:
            num_quarantined: how many of its rows are in the quarantine.
        """
        found, notes = findings(self.mapping, self.rows.tally, self.users, self.items)
        return found, notes + self.passed_over + self._left_out(num_quarantined)

    def _left_out(self, num_quarantined: int) -> tuple[str, ...]:
        """Return sentences on rows that do not come into the table."""
        notes = []
        rejected = self.rows.rejected
        if rejected.num_rows:
            notes.append(f"Rows that break a rule: {rejected.in_words()}.")
        if num_quarantined > rejected.num_rows:
            number = num_quarantined - rejected.num_rows
            notes.append(
                f"{number:,} {'row has' if number == 1 else 'rows have'} the user, item, time and "
                "kind of event of a later row, and another value: the last one counts."
            )
        if not self.rows.good.num_rows:
            notes.append("No row of the log could be used.")
        return tuple(notes)


def _entities(
    source: AttributeSource | None, files: list[SourceFile], table: Table
) -> tuple[pl.DataFrame, pl.DataFrame]:
    if source is None:
        return tables.empty(table), conflicts.NONE_QUARANTINED
    return read_attributes(source, files, table.key[0])
