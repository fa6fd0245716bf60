"""Delta tables: made, read, and written so that doing it again changes nothing.

A change opens its table once: what it compares with, what it checks and what it replaces are one
version. Its commit fails if another writer's came in between (`ONLY_NEXT`), and `redo` then does
the whole change again.

`merge_entities` writes only where the result differs from what is there. `recmeta.logs.settling`
writes the interactions and the quarantine. A log's commit to the interactions has a Delta
application transaction, from which a run that was killed after the commit learns that it is done,
and the counts, which can then no longer be computed.

Delta tables have no row order: readers sort by key.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError

from recmeta.errors import UserError
from recmeta.schema import (
    INTERACTIONS,
    ITEMS,
    QUARANTINE,
    SOURCE,
    USERS,
    Table,
)
from recmeta.workspace import Workspace

if TYPE_CHECKING:
    from pyarrow import dataset

COUNTS = "recmeta.counts"
LOG_RETENTION = "interval 3650 days"
"""How long Delta remembers a version: a model can be rebuilt from it as long as its files stay."""
INGESTED = (INTERACTIONS, QUARANTINE, USERS, ITEMS)
"""What ingest writes."""
ONLY_NEXT = CommitProperties(max_commit_retries=0)
"""Properties of a commit that must directly follow the version that was opened."""
MAX_ATTEMPTS = 20
LONGEST_PAUSE = 1.0
"""Seconds between two attempts."""
T = TypeVar("T")


def redo(workspace: Workspace, change: Callable[[], T]) -> T:
    """Do a change of tables, and do it again if another writer's commit came in between.

    Args:
        change: opens the tables that it changes, and commits to these versions.

    Raises:
        UserError: if others' commits come in between every time, or the workspace's lock was lost.
    """
    for attempt in range(MAX_ATTEMPTS):
        workspace.check_lock()
        try:
            return change()
        except CommitFailedError as error:
            last = error
        pause = min(LONGEST_PAUSE, 0.05 * 2**attempt)
        time.sleep(random.uniform(0, pause))  # nosec B311  # no secret
    raise UserError(
        f"the tables of {workspace.location} could not be changed: in {MAX_ATTEMPTS} attempts, "
        f"another writer's commit came first every time ({last}). Nothing is lost; find out what "
        "else writes to them, and run the command again."
    ) from last


def is_there(workspace: Workspace, table: Table) -> bool:
    """Return whether a table has been made."""
    uri = workspace.table_uri(table)
    return bool(DeltaTable.is_deltatable(uri, storage_options=workspace.storage_options))


def opened(workspace: Workspace, table: Table, version: int | None = None) -> DeltaTable:
    """Return an existing table at a version; None means the newest."""
    uri = workspace.table_uri(table)
    return DeltaTable(uri, version=version, storage_options=workspace.storage_options)


def open_table(workspace: Workspace, table: Table) -> DeltaTable:
    """Return a table at its newest version.

    Raises:
        UserError: if it is not there.
    """
    workspace.require(table)
    return opened(workspace, table)


def create_tables(workspace: Workspace, which: Sequence[Table] = INGESTED) -> None:
    """Make tables that ingest writes, empty, where they are not there yet. Writers may race."""
    for table in which:
        create(workspace, table, {"delta.logRetentionDuration": LOG_RETENTION})


def create(
    workspace: Workspace, table: Table, configuration: dict[str, str | None] | None = None
) -> None:
    """Make a table, empty, if it does not exist. If it does, add the columns that it lacks, which
    are null in its rows. Writers may race.

    Args:
        configuration: Delta's own, of a new table.
    """
    DeltaTable.create(
        workspace.table_uri(table),
        schema=table.columns,
        mode="ignore",
        configuration=configuration,
        storage_options=workspace.storage_options,
    )
    wanted = DeltaSchema.from_arrow(table.columns).fields

    def change() -> None:
        delta = opened(workspace, table)
        known = {field.name for field in delta.schema().fields}
        added = [field for field in wanted if field.name not in known]
        if added:
            delta.alter.add_columns(added, commit_properties=ONLY_NEXT)

    redo(workspace, change)


def ingested(workspace: Workspace) -> dict[Table, DeltaTable]:
    """Return the tables that ingest writes, at their newest versions."""
    return {table: opened(workspace, table) for table in INGESTED}


def versions(workspace: Workspace) -> dict[str, int]:
    """Return the version of each table that ingest writes."""
    return {table.name: delta.version() for table, delta in ingested(workspace).items()}


def scan(workspace: Workspace, table: Table) -> pl.LazyFrame:
    """Return the current version of a table, to be read lazily."""
    return pl.scan_delta(workspace.table_uri(table), storage_options=workspace.storage_options)


def as_dataset(
    workspace: Workspace, table: Table, delta: DeltaTable, encoded: Sequence[str] = ()
) -> "dataset.Dataset":
    """Return one version of a table as an Arrow dataset, to be read in batches.

    Args:
        delta: the table, opened.
        encoded: columns of strings that are dictionary-encoded in batches, as in the files: a
            string of many rows is then read once.
    """
    from pyarrow import dataset  # which imports pandas where that is installed

    folder = workspace / f"tables/{table.name}"
    return delta.to_pyarrow_dataset(
        # Not deltalake's own, whose threads call Python: left half-read, it can wait for ever.
        filesystem=pafs.SubTreeFileSystem(folder.path, folder.filesystem),
        parquet_read_options=dataset.ParquetReadOptions(dictionary_columns=set(encoded)),
    )


def empty(table: Table) -> pl.DataFrame:
    """Return a frame of a table's columns without rows."""
    return pl.DataFrame(pl.from_arrow(table.columns.empty_table()))


def overwrite(workspace: Workspace, table: Table, rows: pa.Table) -> int:
    """Make `rows` the rows of a table, creating it if needed, and return its version."""
    uri, options = workspace.table_uri(table), workspace.storage_options

    def change() -> int:
        if not is_there(workspace, table):
            try:
                write_deltalake(uri, rows, mode="error", storage_options=options)
                return 0
            except DeltaError:  # which it is, too, that another made the table meanwhile
                if not is_there(workspace, table):
                    raise
        delta = opened(workspace, table)
        write_deltalake(delta, rows, mode="overwrite", commit_properties=ONLY_NEXT)
        return int(delta.version())

    return redo(workspace, change)


def delete(workspace: Workspace, table: Table, predicate: str) -> int:
    """Delete the rows for which a predicate is true; return how many there were."""

    def change() -> int:
        metrics = open_table(workspace, table).delete(predicate)
        return int(metrics["num_deleted_rows"] or 0)

    return redo(workspace, change)


def merge_entities(delta: DeltaTable, table: Table, rows: pl.DataFrame) -> None:
    """Add and update users or items with their attributes.

    An attribute that is null or missing in `rows` keeps its value in the table.

    Args:
        delta: the table, opened; at the new version afterwards.
        rows: the table's key columns and any attributes; one row per key.

    Raises:
        UserError: if an attribute has another type in the table.
    """
    key = list(table.key)
    stored = pl.scan_delta(delta).collect()
    for name, dtype in rows.schema.items():
        if stored.schema.get(name, dtype) != dtype:
            raise UserError(
                f"{table.name} have the attribute {name!r} as {stored.schema[name]} already, and "
                f"the mapping now makes it {dtype}: keep its kind or give it another name."
            )
    incoming = rows.rename({name: f"{name}:new" for name in rows.columns if name not in key})
    merged = stored.join(incoming, on=key, how="full", coalesce=True, nulls_equal=True)
    attributes = list(dict.fromkeys([*stored.columns, *rows.columns]))
    merged = merged.select(
        *key, *(_newest(name, merged.columns) for name in attributes if name not in key)
    ).sort(key)
    if merged.equals(stored.sort(key)) and merged.columns == stored.columns:
        return
    types = {
        name: field.type for name, field in zip(merged.columns, _arrow(merged).schema, strict=True)
    }
    known = {field.name: field for field in table.columns}
    schema = pa.schema([known.get(name, pa.field(name, types[name])) for name in merged.columns])
    write_deltalake(
        delta,
        to_arrow(merged, schema),
        mode="overwrite",
        schema_mode="overwrite",
        commit_properties=ONLY_NEXT,
    )


def ingested_counts(interactions: DeltaTable, source_id: str) -> dict[str, int] | None:
    """Return the counts that a source's commit to the interactions left; None without one."""
    if interactions.transaction_version(_transaction(source_id)) is None:
        return None
    for commit in interactions.history():
        if commit.get(SOURCE) == source_id and COUNTS in commit:
            counts: dict[str, int] = json.loads(commit[COUNTS])
            return counts
    return None  # the log was cleaned up: counting anew finds nothing but duplicates


def ingest_commit(source_id: str, counts: dict[str, int]) -> CommitProperties:
    """Return the properties of the commit which says that a source was ingested.

    Args:
        counts: what happened to the source's rows.
    """
    return CommitProperties(
        custom_metadata={SOURCE: source_id, COUNTS: json.dumps(counts)},
        app_transactions=[Transaction(_transaction(source_id), 1)],
        max_commit_retries=0,
    )


def _transaction(source_id: str) -> str:
    return f"ingest:{source_id}"


def _newest(name: str, columns: list[str]) -> pl.Expr:
    sides = [side for side in (f"{name}:new", name) if side in columns]
    return pl.coalesce(sides).alias(name)


def to_arrow(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return rows as Delta tables of a schema take them."""
    return _arrow(rows.select(schema.names)).cast(schema)


def _arrow(rows: pl.DataFrame) -> pa.Table:
    """Return an Arrow table with plain strings and lists, which every Delta reader knows."""
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())
