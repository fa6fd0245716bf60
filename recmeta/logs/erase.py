"""Deleting rows from a Delta table for good, also from its history and its log.

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
"""The number of digits of the version in the name of a file of the log."""


def erase_rows(workspace: Workspace, table: Table, erased: pc.Expression) -> int:
    """Delete the rows for which an expression is true, and every trace of earlier versions.

    Unlike a Delta delete, this writes no predicate into the log. The table keeps its id and
    continues to count its versions; the earlier ones can no longer be read.

    Args:
        erased: must not be null for any row.

    Returns:
        How many of these rows the newest version had; 0 if there is no such table.
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

    Files that belong to no version, such as those of a killed writer, are deleted, too. Hold the
    workspace's lock, since nobody may write meanwhile.
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
