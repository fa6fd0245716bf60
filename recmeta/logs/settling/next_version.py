"""The next version of the interactions: files are written one by one, and committed at the end.

A replaced row of the table is taken out of its file, which is rewritten without it; other files do
not change. Files of a command that was killed before its commit belong to no version: maintenance
deletes them once they are old, and forgetting users does so at once.
"""

import contextlib
import datetime
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from recmeta.logs.checking.conflicts import categories
from recmeta.logs.settling.stored import StoredFile, batches
from recmeta.logs.tables import to_arrow
from recmeta.schema import INGESTED_AT, INTERACTIONS, SOURCE
from recmeta.workspace import Workspace

COMPRESSION = "zstd"
ROW_GROUP_ROWS = 1024 * 1024
"""Rows of a row group of a file; task building reads a group at a time."""
DICTIONARY_BYTES = 16 * 2**20
"""Bytes of a row group's distinct ids, up to which they are stored as a dictionary."""
LONGEST = 32
"""The most characters of a text in the statistics of a file; longer texts are cut, as by every
Delta writer."""
_HIGHEST = "\U0010ffff"


class NextVersion:
    """Files of the interactions that a commit adds to the table. They are deleted if no commit is
    tried."""

    def __init__(self, workspace: Workspace, interactions: DeltaTable) -> None:
        """Write nothing yet.

        Args:
            interactions: the table at the version that the next one follows.
        """
        self.workspace = workspace
        self.interactions = interactions
        self._folder = workspace / INTERACTIONS.path
        self._written: list[str] = []
        self._added: list[AddAction] = []
        self._removed: list[RemoveAction] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._written:
            self._folder.delete(name)

    @property
    def changes_nothing(self) -> bool:
        """Whether it would equal the present version."""
        return not (self._added or self._removed)

    def add(self, rows: pl.DataFrame, source_id: str, now: datetime.datetime) -> None:
        """Write rows into a file of their own.

        Args:
            rows: key and value, sorted by key; ids and kinds of events may be of type Enum.
            now: becomes `ingested_at`.
        """
        if not rows.height:
            return
        one = pl.Enum([source_id])
        named = rows.with_columns(
            pl.lit(source_id, dtype=one).alias(SOURCE), pl.lit(now).alias(INGESTED_AT)
        )
        self._write([_encoded_arrow(named, INTERACTIONS.columns)])

    def take_out(
        self, file: StoredFile, places: pl.Series, taken: Callable[[pl.DataFrame], None]
    ) -> None:
        """Rewrite a file of the table without some of its rows.

        Args:
            places: the rows' numbers in the file.
            taken: is given the rows.
        """
        gone = np.sort(places.to_numpy())

        def rest() -> Iterator[pa.Table]:
            start = 0
            for batch in batches(self.workspace, file, INTERACTIONS.columns.names):
                low, high = np.searchsorted(gone, [start, start + batch.height])
                is_gone = np.zeros(batch.height, dtype=bool)
                is_gone[gone[low:high] - start] = True
                start += batch.height
                if high > low:
                    taken(batch.filter(is_gone))
                if high - low < batch.height:
                    yield to_arrow(batch.filter(~is_gone), INTERACTIONS.columns)

        self._write(rest())
        now = time.time_ns() // 10**6
        self._removed.append(RemoveAction(file.action, True, now, file.size, {}))

    def commit(self, properties: CommitProperties) -> None:
        """Make the files the table's next version.

        Raises:
            CommitFailedError: if another writer's version came first.
        """
        # A remote store may have accepted a commit that it reports as failed: from here on the
        # files may belong to the table, and are not deleted.
        self._written.clear()
        self.interactions.create_write_transaction(
            [*self._removed, *self._added],
            "append",
            self.interactions.schema(),
            commit_properties=properties,
        )

    def _write(self, tables: Iterable[pa.Table]) -> None:
        """Write rows into a file, which does not belong to the table yet; write no file without
        rows."""
        name = f"part-{uuid.uuid4()}.{COMPRESSION}.parquet"
        self._written.append(name)
        statistics = _Statistics()
        with contextlib.ExitStack() as stack:
            writer: pq.ParquetWriter | None = None
            for table in tables:
                if writer is None:
                    path = self._folder.address(name)
                    stream = stack.enter_context(self._folder.filesystem.open_output_stream(path))
                    writer = pq.ParquetWriter(
                        stream,
                        table.schema,
                        compression=COMPRESSION,
                        store_schema=False,
                        dictionary_pagesize_limit=DICTIONARY_BYTES,
                    )
                    stack.enter_context(writer)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                statistics.add(table)
        if writer is not None:
            info = self._folder.filesystem.get_file_info(self._folder.address(name))
            now = time.time_ns() // 10**6
            self._added.append(AddAction(name, info.size, {}, now, True, statistics.to_json()))


def _encoded_arrow(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return rows as `to_arrow` does, but columns of type Enum as dictionaries, which the files
    have anyway: making them from strings takes longer than all the rest of writing."""
    names = [name for name in schema.names if isinstance(rows.schema[name], pl.Enum)]
    table = to_arrow(rows.with_columns(pl.col(names).to_physical()), _numbered(schema, names))
    for name in names:
        place = schema.get_field_index(name)
        texts = categories(rows[name]).to_arrow().cast(pa.string())
        indices = table[name].combine_chunks()
        field = schema.field(name).with_type(pa.dictionary(pa.int32(), pa.string()))
        array = pa.DictionaryArray.from_arrays(indices, texts)
        table = table.set_column(place, field, array)
    return table


def _numbered(schema: pa.Schema, names: list[str]) -> pa.Schema:
    fields = [f.with_type(pa.int32()) if f.name in names else f for f in schema]
    return pa.schema(fields)


class _Statistics:
    """The entry of a file in a Delta table's log. It has statistics of every column, since readers
    take a missing bound for one that no row keeps."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._ends: dict[str, tuple[Any, Any]] = {}
        self._nulls: dict[str, int] = {}

    def add(self, table: pa.Table) -> None:
        self._num_rows += table.num_rows
        for name in table.column_names:
            column = table[name]
            self._nulls[name] = self._nulls.get(name, 0) + column.null_count
            if pa.types.is_dictionary(column.type):  # of which each text occurs
                column = column.combine_chunks().dictionary
            if column.null_count == len(column):
                continue
            ends = pc.min_max(column).as_py()
            low, high = self._ends.get(name, (ends["min"], ends["max"]))
            self._ends[name] = (min(low, ends["min"]), max(high, ends["max"]))

    def to_json(self) -> str:
        low, high = (
            {name: _spelled(ends[end], behind) for name, ends in self._ends.items()}
            for end, behind in enumerate(("", _HIGHEST))
        )
        found = {
            "numRecords": self._num_rows,
            "minValues": low,
            "maxValues": high,
            "nullCount": self._nulls,
        }
        # Pairs of escapes, which letters of high planes would be, are not read as what they are.
        return json.dumps(found, ensure_ascii=False)


def _spelled(value: Any, behind: str) -> Any:
    """Return a bound of a column for the log.

    Args:
        behind: appended to a text that is cut.
    """
    if isinstance(value, datetime.datetime):
        return f"{value.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S.%f}Z".rjust(27, "0")
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:LONGEST] + behind
    return value
