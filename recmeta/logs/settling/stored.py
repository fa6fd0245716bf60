"""The interactions' rows with the keys of a source, for which only files that may hold them are
read.

A file's statistics, which Delta keeps in the table's log, give the range of its rows' times.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from recmeta.logs.checking.conflicts import KEY
from recmeta.logs.checking.tally import MICROSECONDS_AN_HOUR, Tally
from recmeta.logs.settling.parts import Part
from recmeta.logs.settling.spill import Spill
from recmeta.schema import EVENT, INTERACTIONS, ITEM_ID, TIMESTAMP, USER_ID, VALUE
from recmeta.workspace import Workspace

FILE_NUMBER, ROW = "file_number", "row"
"""The place of a row of the table: the number of its file among those that are read, and its number
in that file, from 0."""
NONE_STORED = pl.DataFrame(
    schema={
        USER_ID: pl.String,
        ITEM_ID: pl.String,
        TIMESTAMP: pl.Datetime("us", "UTC"),
        EVENT: pl.String,
        VALUE: pl.Float64,
        FILE_NUMBER: pl.UInt32,
        ROW: pl.UInt32,
    }
)
BATCH_ROWS = 256 * 1024
_PRECISION = 1_000
"""Microseconds: statistics are cut to milliseconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of the interactions."""

    action: str
    """Its path as written in the table's log."""
    size: int
    first: int | None = None
    """The first time, in microseconds since 1970. None if no row has a time, or it is unknown."""
    last: int | None = None
    may_have_nulls: bool = True
    has_statistics: bool = False

    @property
    def path(self) -> str:
        """Its path in the table's folder."""
        return unquote(self.action)

    def may_hold(self, hours: npt.NDArray[np.int64], has_null_times: bool) -> bool:
        """Return whether a row of the file may be in one of these hours, or without a time."""
        if not self.has_statistics or (has_null_times and self.may_have_nulls):
            return True
        if self.first is None or self.last is None:
            return False
        first = (self.first - _PRECISION) // MICROSECONDS_AN_HOUR
        last = (self.last + _PRECISION) // MICROSECONDS_AN_HOUR
        return bool(np.searchsorted(hours, first) < np.searchsorted(hours, last, side="right"))


def files_that_may_hold(delta: DeltaTable, tally: Tally) -> list[StoredFile]:
    """Return the files of a version of the interactions that may hold rows of a log."""
    hours = tally.hours().to_numpy()
    return [f for f in _files(delta) if f.may_hold(hours, tally.has_null_times)]


def _files(delta: DeltaTable) -> list[StoredFile]:
    actions = pa.table(delta.get_add_actions(flatten=True))

    def column(name: str) -> list[Any]:
        if name not in actions.column_names:
            return [None] * actions.num_rows
        values = actions[name]
        is_time = pa.types.is_timestamp(values.type)
        return list((values.cast(pa.int64()) if is_time else values).to_pylist())

    names = ("path", "size_bytes", "num_records")
    of_times = (f"min.{TIMESTAMP}", f"max.{TIMESTAMP}", f"null_count.{TIMESTAMP}")
    found = []
    columns = (column(name) for name in (*names, *of_times))
    for path, size, num_rows, first, last, num_nulls in zip(*columns, strict=True):
        has_no_times = num_nulls is not None and num_nulls == num_rows
        known = num_nulls is not None and (has_no_times or None not in (first, last))
        found.append(
            StoredFile(
                action=path,
                size=size,
                first=first,
                last=last,
                may_have_nulls=num_nulls != 0,
                has_statistics=known,
            )
        )
    return found


class StoredRows:
    """The rows of files of the interactions that have keys of a source."""

    def __init__(self, workspace: Workspace, files: Sequence[StoredFile], tally: Tally) -> None:
        """Read nothing yet.

        Args:
            files: that may hold such rows.
            tally: of the source.
        """
        self.files = files
        self._workspace = workspace
        self._tally = tally
        self._spill: Spill | None = None

    def spill(self, folder: str) -> None:
        """Put the rows on the disk by user, so that `of` reads them once for all parts."""
        if not self.files:
            return
        self._spill = Spill(folder, "stored")
        for number, file in enumerate(self.files):
            start = 0
            for batch in batches(self._workspace, file, [*KEY, VALUE]):
                rows = batch.with_columns(
                    pl.lit(number, dtype=pl.UInt32).alias(FILE_NUMBER),
                    pl.int_range(start, start + batch.height, dtype=pl.UInt32).alias(ROW),
                )
                start += batch.height
                rows = rows.filter(self._of_the_time())
                if rows.height:
                    self._spill.add(rows)

    def of(self, part: Part, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of the table that have keys of a part, with FILE_NUMBER and ROW."""
        found = [NONE_STORED]
        if self._spill is not None:
            columns = [*KEY, VALUE, FILE_NUMBER, ROW]
            for block, sizes in enumerate(self._spill.sizes[:, part.partitions]):
                if sizes.any():
                    rows = part.mine(self._spill.read(block, part.partitions, columns))
                    found.append(rows.join(keys, on=KEY, how="semi", nulls_equal=True))
            return pl.concat(found)
        for number, file in enumerate(self.files):
            stored = self._scan(file).filter(self._of_the_time())
            met = stored.join(keys.lazy(), on=KEY, how="semi", nulls_equal=True)
            place = pl.lit(number, dtype=pl.UInt32).alias(FILE_NUMBER)
            met = met.select(*KEY, VALUE, place, pl.col(ROW).cast(pl.UInt32))
            found.append(met.collect(engine="streaming"))
        return pl.concat(found)

    def _scan(self, file: StoredFile) -> pl.LazyFrame:
        uri = f"{self._workspace.table_uri(INTERACTIONS)}/{file.path}"
        options = self._workspace.storage_options
        rows = pl.scan_parquet(uri, row_index_name=ROW, glob=False, storage_options=options)
        return rows.select(*KEY, VALUE, ROW)

    def _of_the_time(self) -> pl.Expr:
        """Whether a row is between the source's first and last times, or both have none."""
        time, tally = pl.col(TIMESTAMP), self._tally
        inside = pl.lit(False)
        if tally.first is not None:
            inside = time.is_between(pl.lit(tally.first), pl.lit(tally.last)).fill_null(False)
        return inside | time.is_null() if tally.has_null_times else inside


def batches(workspace: Workspace, file: StoredFile, columns: list[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file of the interactions in their order."""
    folder = workspace / INTERACTIONS.path
    with folder.filesystem.open_input_file(folder.address(file.path)) as stored:
        for batch in pq.ParquetFile(stored).iter_batches(BATCH_ROWS, columns=columns):
            yield pl.DataFrame(pl.from_arrow(pa.table(batch))).select(columns)
