"""Rows of the interactions that were added or removed since an earlier version.

A version of a Delta table is a list of files, and a file never changes. The added and the removed
rows are therefore in the files that only one of two versions has: an ingest adds a file, and an
ingest that replaces rows rewrites the files that had them, whose other rows cancel out.
"""

from collections.abc import Collection
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from recmeta import schema
from recmeta.config import fingerprint
from recmeta.workspace import Workspace

SIGN = "sign"
ROW = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT, schema.VALUE)
_LONGEST = 32
"""The fewest characters of a string that Delta's statistics of a file keep."""


class InFull(Exception):
    """Tasks are to be built in full; the message says why, as the end of a sentence."""


def files_of(delta: DeltaTable) -> frozenset[str]:
    """Return the names of a table's files."""
    names = pa.table(delta.get_add_actions()).column("path").to_pylist()
    return frozenset(map(unquote, names))


def sources_id(workspace: Workspace, interactions: DeltaTable) -> str:
    """Return the fingerprint of the sources whose rows a version of the interactions holds.

    Only files of several sources are read: for all others, Delta's statistics give the source.
    """
    adds = pa.table(interactions.get_add_actions(flatten=True))
    found, unclear = set[str](), list[str]()
    low, high = (
        adds[name].to_pylist() if name in adds.column_names else [None] * len(adds)
        for name in (f"min.{schema.SOURCE}", f"max.{schema.SOURCE}")
    )
    for path, first, last in zip(adds["path"].to_pylist(), low, high, strict=True):
        if first is not None and first == last and len(first) < _LONGEST:
            found.add(first)
        else:
            unclear.append(unquote(path))
    for table in _read(workspace, unclear, [schema.SOURCE]):
        found.update(table[schema.SOURCE].unique().to_pylist())
    return fingerprint(sorted(found))


def changed_rows(
    workspace: Workspace,
    before: Collection[str],
    now: Collection[str],
    *,
    most_gone: int,
    most_more: int,
) -> pl.DataFrame:
    """Return the rows that were added and those that were removed. They are counted before any is
    read, since all of them are in memory.

    Args:
        before: names of the table's files at the earlier version.
        now: those of today.
        most_gone: the most rows of files that no longer belong to the table.
        most_more: the most rows that the table may have beyond the earlier version.

    Returns:
        The columns of ROW, and `sign`: 1 for an added row, -1 for a removed one.

    Raises:
        InFull: if files of the earlier version have been deleted, or there are too many rows.
    """
    gone, came = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    folder = workspace / schema.INTERACTIONS.path
    if not all(folder.exists(name) for name in gone):
        raise InFull("files of the earlier log are gone, as after a user was forgotten")
    num_gone, num_came = (_num_rows(workspace, names) for names in (gone, came))
    if num_gone > most_gone:
        raise InFull(f"the files of {num_gone:,} rows of the log were rewritten")
    if num_came - num_gone > most_more:
        raise InFull(f"the log has {num_came - num_gone:,} rows more than before")
    signed = [
        _as_frame(table, sign)
        for names, sign in ((gone, -1), (came, 1))
        for table in _read(workspace, names, list(ROW))
    ]
    if not signed:
        return _as_frame(schema.INTERACTIONS.columns.empty_table().select(ROW), 1)
    rows = pl.concat(signed)
    if gone:
        rows = rows.group_by(ROW).agg(pl.col(SIGN).sum()).filter(pl.col(SIGN) != 0)
    return rows


def _as_frame(rows: pa.Table, sign: int) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(rows))
    return frame.with_columns(pl.lit(sign, pl.Int8).alias(SIGN))


def _num_rows(workspace: Workspace, names: Collection[str]) -> int:
    """Return how many rows files have, of which only the ends are read."""
    total = 0
    for name in names:
        with _open(workspace, name) as file:
            total += pq.read_metadata(file).num_rows
    return total


def _read(workspace: Workspace, names: Collection[str], columns: list[str]) -> list[pa.Table]:
    return [pq.read_table(_open(workspace, name), columns=columns) for name in names]


def _open(workspace: Workspace, name: str) -> pa.NativeFile:
    folder = workspace / schema.INTERACTIONS.path
    return folder.filesystem.open_input_file(folder.address(name))
