"""Whether a Delta table is there, is the one that it was, and has all its files.

A table goes on: later versions replace the one that a step left, maintenance deletes the files of
earlier ones, and users who are forgotten are taken out of its history. So a step's table counts as
whole while it has the same id and no earlier version than the step left, and while the version of
now can be read: its log, and every file at the size that the log says.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable

from recmeta import schema
from recmeta.errors import Broken
from recmeta.logs.tables import opened
from recmeta.schema import Table
from recmeta.workspace import Workspace

LOG = "_delta_log"
_ALL_LOGS = "`recmeta ingest` with every log again"
WRITTEN_BY = {
    schema.INTERACTIONS.name: _ALL_LOGS,
    schema.QUARANTINE.name: _ALL_LOGS,
    schema.USERS.name: _ALL_LOGS,
    schema.ITEMS.name: _ALL_LOGS,
    schema.ITEM_STATISTICS.name: "`recmeta build-tasks`",
    schema.USER_ACTIVITY.name: "`recmeta materialise-features`",
    schema.ITEM_ACTIVITY.name: "`recmeta materialise-features`",
    schema.RECOMMENDATIONS.name: "`recmeta score` with every file of new users again",
    schema.PUBLISHED.name: "the DAG cold_start_scoring for every day again",
}
"""By table, the command that writes it again."""


class TableVersions:
    """Versions of tables that a step leaves; see `recmeta.manifest.Left`."""

    def __init__(self, versions: Callable[[Any], Mapping[Table, int]]) -> None:
        """
        Args:
            versions: returns them from the outputs.
        """
        self._versions = versions

    def digests(self, workspace: Workspace, outputs: Any) -> dict[str, Any]:
        """Return each table's id and version, and the digest of the version's entry in its log."""
        found = {}
        for table, version in self._versions(outputs).items():
            found[address(table)] = {
                "id": str(opened(workspace, table).metadata().id),
                "version": version,
                "log": _entry(workspace, table, version),
            }
        return found

    def losses(
        self, workspace: Workspace, outputs: Any, digests: Mapping[str, Any] | None, *, full: bool
    ) -> list[str]:
        """Return which tables are gone, or are older than the step left them, or others.

        Args:
            full: makes no difference: `check` reads a table's files, once for all steps.

        Raises:
            Broken: where a table lacks files or cannot be read.
        """
        found = []
        for table, version in self._versions(outputs).items():
            place = workspace.table_uri(table)
            if not workspace.exists(f"{address(table)}/{LOG}"):
                found.append(f"the table {place} is missing")
                continue
            delta = check(workspace, table)
            known = {} if digests is None else digests.get(address(table), {})
            if known.get("id") not in (None, str(delta.metadata().id)):
                found.append(f"the table {place} is another one than it was")
            elif delta.version() < version:
                found.append(
                    f"the table {place} is at version {delta.version()}, and was at {version}"
                )
            else:
                entry = _entry(workspace, table, version)
                gone = entry is None and delta.version() > version  # the log was cleaned up
                if known.get("log") not in (None, entry) and not gone:
                    raise _broken(
                        workspace, table, f"entry {version} of its log is not what was written"
                    )
        return found

    def remove(self, workspace: Workspace, outputs: Any) -> None:
        """Keep the tables: doing the step again writes another version of them."""


def address(table: Table) -> str:
    """Return where a table is in the workspace."""
    return f"tables/{table.name}"


def check(workspace: Workspace, table: Table, *, full: bool = False) -> DeltaTable:
    """Return a table that is there, opened, whose files are all there with the size that its log
    says.

    Args:
        full: read every file.

    Raises:
        Broken: where files are missing or of another size, or the log cannot be read.
    """
    try:
        delta = opened(workspace, table)
        adds = pa.table(delta.get_add_actions())
        files = dict(
            zip(
                map(unquote, adds.column("path").to_pylist()),
                adds.column("size_bytes").to_pylist(),
                strict=True,
            )
        )
    except Exception as error:  # deltalake's own, or what its Rust code panics with
        raise _broken(workspace, table, f"its log cannot be read ({_line(error)})") from error
    folder = workspace / address(table)
    found = folder.filesystem.get_file_info(pafs.FileSelector(folder.path, recursive=True))
    sizes = {i.path[len(folder.path) + 1 :]: i.size for i in found if i.type == pafs.FileType.File}
    missing = [name for name in files if name not in sizes]
    cut = [name for name, size in files.items() if sizes.get(name, size) != size]
    for names, what in ((missing, "missing"), (cut, "not of the size they were")):
        if names:
            count = f"{len(names)} of its files are {what}, such as {names[0]}"
            raise _broken(workspace, table, count)
    for name in files if full else ():
        try:
            rows = pq.read_table(pa.BufferReader(folder.read_buffer(name)))
            rows.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"its file {name} cannot be read ({_line(error)})"
            raise _broken(workspace, table, what) from error
    return delta


def _entry(workspace: Workspace, table: Table, version: int) -> str | None:
    """Return the digest of a version's entry in a table's log; None where it was cleaned up."""
    log = workspace / f"{address(table)}/{LOG}"
    name = f"{version:020d}.json"
    return hashlib.sha256(log.read_bytes(name)).hexdigest() if log.exists(name) else None


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _broken(workspace: Workspace, table: Table, what: str) -> Broken:
    return Broken(
        f"the table {workspace.table_uri(table)} is broken: {what}. Bring its folder back from a "
        f"backup; or delete the folder and run {WRITTEN_BY[table.name]}."
    )
