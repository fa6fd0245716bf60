"""Files of new users in the workspace, for adapt to read.

interactions.parquet   user_id, item_id, value, and timestamp where the log has times
profiles.parquet       user_id and raw attributes
"""

import io

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recmeta import schema
from recmeta.logs.mapping import Attribute, AttributeSource, Kind, LogMapping
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder, Workspace, resumed

INTERACTIONS = "interactions.parquet"
PROFILES = "profiles.parquet"


def write(folder: Folder, name: str, rows: pl.DataFrame) -> None:
    """Write one of the files."""
    stream = io.BytesIO()
    rows.write_parquet(stream)
    folder.write_bytes(name, stream.getvalue())


def shard_mapping(workspace: Workspace, shard: str) -> LogMapping:
    """Return how adapt reads a folder of new users.

    Args:
        shard: a folder with such files, in the workspace.
    """
    place = f"{workspace.location}/{shard}"
    folder = workspace / shard
    columns = pq.read_schema(pa.BufferReader(folder.read_bytes(INTERACTIONS))).names
    profiles = None
    if folder.exists(PROFILES):
        fields = pq.read_schema(pa.BufferReader(folder.read_bytes(PROFILES)))
        profiles = AttributeSource(
            path=f"{place}/{PROFILES}",
            id_col=schema.USER_ID,
            columns={
                f.name: Attribute(kind=_kind(f.type)) for f in fields if f.name != schema.USER_ID
            },
        )
    return LogMapping(
        path=f"{place}/{INTERACTIONS}",
        time_col=schema.TIMESTAMP if schema.TIMESTAMP in columns else None,
        value_col=schema.VALUE,
        max_bad_share=1.0,  # they were checked on ingest, and the catalogue may be older
        users=profiles,
    )


def cold_users(workspace: Workspace, key: str, task_set: TaskSet) -> LogMapping:
    """Write the supports of the cold test users, with their profiles, and return them as the files
    of new users that adapt reads.

    Args:
        key: of the step that built the task set.
    """
    name = f"new_users/{key}"
    folder = workspace / name
    test, items = task_set.tasks("test"), task_set.items()
    support = test.support
    kept = resumed(folder)
    interactions = pa.table(
        {
            schema.USER_ID: test.profile[schema.USER_ID].combine_chunks().take(support.task),
            schema.ITEM_ID: items.item_id.take(pa.array(support.item)),
            schema.VALUE: pa.array(support.value, pa.float64()),
        }
    )
    for file, table in ((INTERACTIONS, interactions), (PROFILES, test.profile)):
        if not kept.has(file):
            kept.write_parquet(file, table)
            kept.seal()
    return shard_mapping(workspace, name)


def _kind(type_: pa.DataType) -> Kind:
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return "multi"
    return "numeric" if pa.types.is_floating(type_) else "categorical"
