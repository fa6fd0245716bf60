"""Whether a Delta table exists, is the same table as before, and has all its files.

A table changes: later versions replace the one that a step left, maintenance deletes the files of
earlier ones, and users who are forgotten are removed from its history. A step's table therefore
counts as intact while it has the same id and no earlier version than the step left, and while its
current version can be read: its log, and every file with the size that the log gives.

    tables/NAME.digests.json    the SHA-256 of each file of a table, for `recmeta doctor --verify`
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
from recmeta.workspace import DIGESTS, Workspace

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
    schema.USER_CAPSULES.name: "`recmeta export --vectors` with every file of new users again",
    schema.ITEM_VECTORS.name: "`recmeta export --vectors`",
}
"""The command that writes each table again."""


class TableVersions:
    """Versions of tables that a step leaves; see `recmeta.records.step_definition.StepOutput`."""

    def __init__(self, versions: Callable[[Any], Mapping[Table, int]]) -> None:
        """
        Args:
            versions: returns them from the outputs.
        """
        self._versions = versions

    def digests(self, workspace: Workspace, outputs: Any) -> dict[str, Any]:
        """Return each table's id and version, and the digest of the version's entry in its log.

        The digests of the table's files are kept beside it: each file is read once, when it is new.
        """
        found = {}
        for table, version in self._versions(outputs).items():
            delta = opened(workspace, table)
            _remember(workspace, table, delta)
            found[address(table)] = {
                "id": str(delta.metadata().id),
                "version": version,
                "log": _entry(workspace, table, version),
            }
        return found

    def losses(
        self, workspace: Workspace, outputs: Any, digests: Mapping[str, Any] | None, *, full: bool
    ) -> list[str]:
        """Return which tables are gone, are older than the step left them, or have been replaced.

        Args:
            full: makes no difference, since `check` reads a table's files once for all steps.

        Raises:
            Broken: if a table lacks files or cannot be read.
        """
        found = []
        for table, version in self._versions(outputs).items():
            place = workspace.table_uri(table)
            if not is_made(workspace, table):
                found.append(f"the table {place} is missing")
                continue
            delta = check(workspace, table)
            known = {} if digests is None else digests.get(address(table), {})
            if (older := predates(delta, known.get("id"), version)) is not None:
                found.append(f"the table {place} {older}")
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


def is_made(workspace: Workspace, table: Table) -> bool:
    """Return whether a table exists, intact or not.

    If the disk is full when a table is made, only an empty folder for its log is left.
    """
    folder = workspace / address(table)
    return folder.names() not in ([], [LOG]) or bool((folder / LOG).names())


def predates(delta: DeltaTable, table_id: str | None, version: int) -> str | None:
    """Return how a table differs from the one that a step left, by being another or an earlier one;
    None if it does not.

    Args:
        table_id: None if it is not known.
    """
    if table_id not in (None, str(delta.metadata().id)):
        return "is not the same table as before"
    if delta.version() < version:
        return f"is at version {delta.version()}, and was at {version}"
    return None


def check(workspace: Workspace, table: Table, *, full: bool = False) -> DeltaTable:
    """Return a table, opened at its newest version, all of whose files exist with the sizes in its
    log.

    Args:
        full: read every file, and compare it with its digest.

    Raises:
        UserError: if the table does not exist.
        Broken: if files are missing or of another size, or the log cannot be read.
    """
    workspace.require(table)
    try:
        delta = opened(workspace, table)
        files = _files(delta)
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
    digests = _known_files(workspace, table) if full else {}
    for name in files if full else ():
        content = folder.read_buffer(name)
        if name in digests and _digest(content) != digests[name]:
            raise _broken(workspace, table, f"its file {name} is not what was written")
        try:
            rows = pq.read_table(pa.BufferReader(content))
            rows.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"its file {name} cannot be read ({_line(error)})"
            raise _broken(workspace, table, what) from error
    return delta


def _files(delta: DeltaTable) -> dict[str, int]:
    """Return the size of each file of a table, in bytes, by its path in the table's folder."""
    adds = pa.table(delta.get_add_actions())
    paths = map(unquote, adds.column("path").to_pylist())
    return dict(zip(paths, adds.column("size_bytes").to_pylist(), strict=True))


def _known_files(workspace: Workspace, table: Table) -> dict[str, str]:
    """Return the digests of a table's files, as far as they are known."""
    name = f"{address(table)}.{DIGESTS}"
    try:
        return dict(workspace.read_json(name)["files"]) if workspace.exists(name) else {}
    except (ValueError, KeyError, TypeError):  # what is broken is made again
        return {}


def _remember(workspace: Workspace, table: Table, delta: DeltaTable) -> None:
    """Keep the digests of a table's files, of each that is new."""
    before, folder = _known_files(workspace, table), workspace / address(table)
    now = {
        name: before[name] if name in before else _digest(folder.read_buffer(name))
        for name in sorted(_files(delta))
    }
    if now != before:
        workspace.write_json(f"{address(table)}.{DIGESTS}", {"files": now})


def _digest(content: pa.Buffer) -> str:
    return hashlib.sha256(content).hexdigest()


def _entry(workspace: Workspace, table: Table, version: int) -> str | None:
    """Return the digest of a version's entry in a table's log; None if it was cleaned up."""
    log = workspace / f"{address(table)}/{LOG}"
    name = f"{version:020d}.json"
    return hashlib.sha256(log.read_bytes(name)).hexdigest() if log.exists(name) else None


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _broken(workspace: Workspace, table: Table, what: str) -> Broken:
    return Broken(
        f"the table {workspace.table_uri(table)} is broken: {what}. Restore its folder from a "
        f"backup, or delete the folder and run {WRITTEN_BY[table.name]}."
    )
