"""The good rows of a source, in parts that fit into memory and have no key in common."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Protocol

import polars as pl

from recmeta.logs.checking.checked import num_bytes_of
from recmeta.logs.checking.conflicts import KEY
from recmeta.logs.reading.log_format import text_of
from recmeta.logs.settling.budget import Budget
from recmeta.logs.settling.spill import Spill, share_of_keys
from recmeta.schema import FILE, LINE, RAW, VALUE

PLACE = "place"
"""The number of a row in its part, by which its text in the file is found."""
KEPT_BYTES_PER_ROW = 96
"""Bytes of a row in memory, in addition to its text."""


class _Chunk(Protocol):
    """Rows of one file that were added together."""

    @property
    def num_rows(self) -> int:
        """The number of rows."""

    def rows(self) -> pl.DataFrame:
        """Return the rows' key and value."""

    def texts(self, places: pl.Series) -> pl.DataFrame:
        """Return `file`, `line` and `raw` of the rows of these numbers."""


class _Kept:
    """A chunk in memory."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.num_rows = frame.height

    def rows(self) -> pl.DataFrame:
        return self.frame.select(*KEY, VALUE)

    def texts(self, places: pl.Series) -> pl.DataFrame:
        found = self.frame.select(FILE, LINE, RAW)[places]
        return found.with_columns(text_of(found.schema[RAW]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Spilled:
    """A chunk on the disk."""

    spill: Spill
    block: int
    partitions: tuple[int, ...]
    num_rows: int
    file: str

    def rows(self) -> pl.DataFrame:
        return self.spill.read(self.block, self.partitions, [*KEY, VALUE])

    def texts(self, places: pl.Series) -> pl.DataFrame:
        found = self.spill.read(self.block, self.partitions, [LINE, RAW])[places]
        return found.select(pl.lit(self.file).alias(FILE), LINE, text_of(found.schema[RAW]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Rows with which no other part has a key in common, in the order of the source."""

    chunks: tuple[_Chunk, ...]
    partitions: tuple[int, ...]
    """Partitions of a spill, which have the rows of the same users."""
    share: int = 0
    num_shares: int = 1
    """One share of the rows by the hash of their key, for a user with very many."""

    def rows(self) -> pl.DataFrame:
        """Return the rows' key and value, and their PLACE."""
        rows = pl.concat([chunk.rows() for chunk in self.chunks])
        return self.mine(rows.with_row_index(PLACE))

    def mine(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows, of the part's users, that are of the part."""
        if self.num_shares == 1:
            return rows
        return rows.filter(share_of_keys(self.share, self.num_shares))

    def with_texts(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows of the part, in the order of their PLACE, with `file`, `line` and `raw` in
        its place."""
        texts, start = [], 0
        for chunk in self.chunks if rows.height else ():
            places = rows[PLACE].filter(
                (rows[PLACE] >= start) & (rows[PLACE] < start + chunk.num_rows)
            )
            if len(places):
                texts.append(chunk.texts(places - start))
            start += chunk.num_rows
        empty = pl.DataFrame(schema={FILE: pl.String, LINE: pl.Int64, RAW: pl.String})
        return rows.drop(PLACE).hstack(pl.concat([empty, *texts]))


class Parts:
    """The good rows of a source: in memory while they are few, otherwise on the disk."""

    def __init__(self, folder: str, budget: Budget) -> None:
        """Hold no rows yet.

        Args:
            folder: for the rows that do not fit into memory.
        """
        self.folder = folder
        self.budget = budget
        self.num_rows = 0
        self._kept: list[pl.DataFrame] = []
        self._kept_bytes = 0
        self._spill: Spill | None = None
        self._files: list[str] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows of one file as `contracts.check` returns them."""
        self.num_rows += rows.height
        if self._spill is None:
            self._kept.append(rows)
            self._kept_bytes += rows.height * KEPT_BYTES_PER_ROW + num_bytes_of(rows[RAW])
            if self._kept_bytes <= self.budget.kept_bytes:
                return
            self._spill = Spill(self.folder, "rows")
            kept, self._kept = self._kept, []
            for block in kept:
                self._put_down(self._spill, block)
        else:
            self._put_down(self._spill, rows)

    @property
    def are_kept(self) -> bool:
        """Whether all rows are in memory, as one part."""
        return self._spill is None

    def __iter__(self) -> Iterator[Part]:
        if self._spill is None:
            chunks = tuple(_Kept(block) for block in self._kept)
            if chunks:
                yield Part(chunks=chunks, partitions=())
            return
        sizes, most = self._spill.sizes.sum(axis=0).tolist(), self.budget.rows_per_part
        group: list[int] = []
        for partition, size in enumerate(sizes):
            if size > most:
                num_shares = math.ceil(size / most)
                part = self._part(self._spill, [partition])
                for share in range(num_shares):
                    yield dataclasses.replace(part, share=share, num_shares=num_shares)
                continue
            if sum(sizes[p] for p in group) + size > most:
                yield self._part(self._spill, group)
                group = []
            group.append(partition)
        if sum(sizes[p] for p in group):
            yield self._part(self._spill, group)

    def _part(self, spill: Spill, partitions: list[int]) -> Part:
        chunks = tuple(
            _Spilled(
                spill=spill, block=block, partitions=tuple(partitions), num_rows=size, file=file
            )
            for block, (size, file) in enumerate(
                zip(spill.sizes[:, partitions].sum(axis=1).tolist(), self._files, strict=True)
            )
            if size
        )
        return Part(chunks=chunks, partitions=tuple(partitions))

    def _put_down(self, spill: Spill, rows: pl.DataFrame) -> None:
        if rows.height:
            self._files.append(rows[FILE][0])
            spill.add(rows.select(*KEY, VALUE, LINE, RAW))
