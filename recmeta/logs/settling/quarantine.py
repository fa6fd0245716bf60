"""Any number of rows of a source that go into the quarantine."""

import datetime
import itertools
from collections.abc import Iterable, Iterator, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from recmeta.logs.checking.conflicts import NONE_QUARANTINED
from recmeta.logs.tables import ONLY_NEXT, to_arrow
from recmeta.schema import FILE, INGESTED_AT, LINE, QUARANTINE, RAW, RULES, SOURCE

ORDER = [FILE, LINE, RAW, RULES]


class QuarantinedRows:
    """Rows with the columns of `NONE_QUARANTINED`: in memory while they are few, otherwise on the
    disk."""

    def __init__(self, folder: str, name: str, kept_bytes: int) -> None:
        """Hold no rows yet.

        Args:
            folder: for the rows that do not fit into memory.
            name: different from all others in the folder.
            kept_bytes: that rows in memory may take.
        """
        self.num_rows = 0
        self._place = f"{folder}/{name}"
        self.kept_bytes = kept_bytes
        self._kept: list[pl.DataFrame] = []
        self._bytes = 0
        self._files: list[str] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows."""
        if not rows.height:
            return
        self.num_rows += rows.height
        self._kept.append(rows.select(NONE_QUARANTINED.columns))
        self._bytes += int(rows.estimated_size())
        if self._bytes > self.kept_bytes:
            self._files.append(f"{self._place}-{len(self._files)}.arrow")
            self._joined().write_ipc(self._files[-1])
            self._kept, self._bytes = [], 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield all rows in blocks, each in the order of files and lines."""
        on_disk = (pl.read_ipc(name) for name in self._files)
        return itertools.chain(on_disk, [self._joined()] if self._kept else ())

    def _joined(self) -> pl.DataFrame:
        return pl.concat(self._kept).sort(ORDER)


def replace_quarantine(
    quarantine: DeltaTable,
    source_id: str,
    groups: Sequence[Iterable[pl.DataFrame]],
    now: datetime.datetime,
) -> None:
    """Make rows the quarantine's rows of one source, in one commit, or in none if they are already
    there.

    Args:
        quarantine: the table, opened; at the new version afterwards.
        groups: blocks of rows with all columns of the quarantine but `source` and `ingested_at`,
            which are iterated more than once.
        now: becomes `ingested_at`.
    """
    stored = has_rows_of(quarantine, source_id)
    if stored and _digest(blocks_of(quarantine, source_id)) == _digest(_chained(groups)):
        return
    if not stored and not any(block.height for block in _chained(groups)):
        return
    schema = QUARANTINE.columns

    def rows() -> Iterator[pa.RecordBatch]:
        for block in _chained(groups):
            named = block.with_columns(
                pl.lit(source_id).alias(SOURCE), pl.lit(now).alias(INGESTED_AT)
            )
            yield from to_arrow(named, schema).to_batches()

    data = pa.RecordBatchReader.from_batches(schema, rows())
    if not stored:
        write_deltalake(quarantine, data, mode="append", commit_properties=ONLY_NEXT)
        return
    write_deltalake(
        quarantine,
        data,
        mode="overwrite",
        predicate=f"{SOURCE} = '{source_id}'",
        commit_properties=ONLY_NEXT,
    )


def blocks_of(quarantine: DeltaTable, source_id: str) -> Iterator[pl.DataFrame]:
    """Yield a source's rows of the quarantine, without `source` and `ingested_at`."""
    rows = quarantine.to_pyarrow_dataset().to_batches(filter=pc.field(SOURCE) == source_id)
    for batch in rows:
        yield pl.DataFrame(pl.from_arrow(pa.table(batch))).drop(SOURCE, INGESTED_AT)


_chained = itertools.chain.from_iterable


def _digest(blocks: Iterable[pl.DataFrame]) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes, whatever their order."""
    num_rows = total = 0
    for block in blocks:
        columns = sorted(set(block.columns) - {RULES})
        named = block.select(*columns, pl.col(RULES).list.join("\n"))
        hashes = named.hash_rows()
        num_rows += block.height
        total += int(hashes.to_numpy().sum(dtype="uint64"))
    return num_rows, total % 2**64


def has_rows_of(delta: DeltaTable, source_id: str) -> bool:
    """Return whether a table has rows of a source."""
    rows = pl.scan_delta(delta).filter(pl.col(SOURCE) == source_id)
    return bool(rows.select(pl.len()).collect().item())
