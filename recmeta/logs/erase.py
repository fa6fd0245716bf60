"""Rows taken out of a Delta table for good: out of its history and its log, too.

Deleting rows from a Delta table leaves them in files of earlier versions, and their smallest and
largest values in the statistics that the log keeps of each file.
"""

import pyarrow.compute as pc
from deltalake import write_deltalake

from recmeta.logs.tables import ONLY_NEXT, is_there, opened, redo
from recmeta.schema import Table
from recmeta.workspace import Workspace

LOG = "_delta_log"
NUM_DIGITS = 20
"""Of the version that a file of the log is named by."""


def erase_rows(workspace: Workspace, table: Table, erased: pc.Expression) -> int:
    """Delete the rows for which an expression is true, and every trace of earlier versions.

    No predicate is written down, as a Delta delete would do in its log. The table keeps its id and
    goes on counting its versions; the earlier ones can no longer be read.

    Args:
        erased: must not be null for any row.

    Returns:
        How many rows the newest version had of them; 0 where there is no such table.
    """
    if not is_there(workspace, table):
        return 0

    def change() -> int:
        delta = opened(workspace, table)
        rows = delta.to_pyarrow_dataset()
        num_erased = int(rows.count_rows(filter=erased))
        if num_erased:
            kept = rows.scanner(filter=~erased).to_reader()
            write_deltalake(delta, kept, mode="overwrite", commit_properties=ONLY_NEXT)
        return num_erased

    num_erased = redo(workspace, change)
    forget_history(workspace, table)
    return num_erased


def forget_history(workspace: Workspace, table: Table) -> None:
    """Delete all versions of a table but the newest: their files and what the log says of them.

    Files that no version has are deleted, too, as a writer that was killed leaves them. So nobody
    may be writing: hold the workspace's lock.
    """
    delta = opened(workspace, table)
    delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    delta = opened(workspace, table)
    newest = delta.version()
    delta.create_checkpoint()  # what the newest version is, without the log before it
    log = workspace / f"tables/{table.name}/{LOG}"
    for name in log.names():
        version = name[:NUM_DIGITS]
        if version.isdigit() and int(version) < newest:
            log.filesystem.delete_file(f"{log.path}/{name}")
