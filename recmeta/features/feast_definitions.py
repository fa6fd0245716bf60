"""The sources and fields of Feast's definitions, derived from a workspace's Delta tables.

`feature_store/` is built from these, so that a feature has the name and the type of its table's
column.
"""

import datetime

import pyarrow as pa
from deltalake import DeltaTable
from feast import Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import (
    Array,
    Bool,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    UnixTimestamp,
)

from recmeta.errors import UserError
from recmeta.schema import Table, with_plain_types
from recmeta.workspace import Workspace

_TYPES = {
    pa.string(): String,
    pa.bool_(): Bool,
    pa.int32(): Int32,
    pa.int64(): Int64,
    pa.float32(): Float32,
    pa.float64(): Float64,
}


def table_source(workspace: str, table: Table, timestamp_field: str) -> FileSource:
    """Return a source of a table's rows.

    Args:
        workspace: the local path or object-store URL of the workspace.
        timestamp_field: the column with the time from which a row counts.
    """
    uri = Workspace(workspace).table_uri(table)
    source = FileSource(
        name=table.name, path=uri, file_format=DeltaFormat(), timestamp_field=timestamp_field
    )
    if DeltaTable.is_deltatable(uri):
        # Feast stamps a source with the time at which its definition is read, so that `feast apply`
        # would find every view changed each time.
        created = datetime.datetime.fromtimestamp(
            DeltaTable(uri).metadata().created_time / 1000, datetime.UTC
        )
        source.created_timestamp = source.last_updated_timestamp = created
    return source


def fields(table: Table) -> list[Field]:
    """Return the features of a table whose columns are fixed: all but its key."""
    return _fields(table.columns, table)


def exported_fields(workspace: str, table: Table, timestamp_field: str) -> list[Field]:
    """Return the features of a table that `recmeta export --vectors` writes: all but its key and
    its time. There are none before it has."""
    uri = Workspace(workspace).table_uri(table)
    if not DeltaTable.is_deltatable(uri):
        return []
    written = {field.name for field in DeltaTable(uri).schema().fields}
    if timestamp_field not in written:  # by an earlier version, which did not say when
        return []
    return [field for field in fields(table) if field.name != timestamp_field]


def attribute_fields(workspace: str, table: Table) -> list[Field]:
    """Return the features of the users or the items table, whose columns depend on the log.

    There are none if the ingested log has no attributes.

    Raises:
        UserError: if nothing has been ingested.
    """
    uri = Workspace(workspace).table_uri(table)
    if not DeltaTable.is_deltatable(uri):
        raise UserError(
            f"the workspace {workspace} has no {table.name} table, so the feature store cannot "
            "know the attributes: ingest a log first, with `recmeta ingest`, or set "
            "RECMETA_WORKSPACE."
        )
    columns = pa.schema(DeltaTable(uri).schema().to_arrow())
    return _fields(with_plain_types(columns.empty_table()).schema, table)


def _fields(columns: pa.Schema, table: Table) -> list[Field]:
    return [
        Field(name=column.name, dtype=_feast_type(column.type))
        for column in columns
        if column.name not in table.key
    ]


def _feast_type(kind: pa.DataType) -> FeastType:
    if pa.types.is_list(kind):
        return Array(_feast_type(kind.value_type))
    if pa.types.is_timestamp(kind):
        return UnixTimestamp
    return _TYPES[kind]
