"""MLflow stores of older versions of recmeta, which named the folder that the workspace was in.

Such a store breaks when the workspace is moved, and the store of a copy writes into the original.
Its addresses are therefore made relative, in one transaction, when it is opened. See `artifacts`.
"""

import contextlib
import json
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from recmeta.errors import UserError
from recmeta.registry import artifacts
from recmeta.schema import TABLES

SECONDS = 20
"""The longest time, in seconds, that another process may keep the database locked."""

ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Tables and columns in which MLflow keeps addresses of artifacts."""


def make_relative(database: Path) -> int:
    """Make the addresses of artifacts and of Delta tables in a SQLite store relative.

    A folder of artifacts that is not a workspace's does not change, nor does a database that cannot
    be written.

    Returns:
        The number of addresses that were changed, 0 in a store of the present version.

    Raises:
        UserError: if another process locks the database for longer than `SECONDS`.
    """
    address = f"file:{quote(str(database))}?mode=rw"
    try:
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=SECONDS, isolation_level=None)
        ) as connection:
            return _make_relative(connection, database)
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UserError(
                f"MLflow's database {database} has been locked by another process for {SECONDS} "
                "seconds: let that process finish, or stop it, and try again."
            ) from error
        if "readonly" in str(error) or "no such table" in str(error):
            return 0  # MLflow reports a missing table itself
        raise


def _make_relative(connection: sqlite3.Connection, database: Path) -> int:
    if not _roots(connection, database):  # without a lock that others would wait for
        return 0
    connection.execute("BEGIN IMMEDIATE")
    changed = 0
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for root in _roots(connection, database):
        for table, column in ADDRESSES:
            if table not in present:
                continue
            found = connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # nosec B608  # constants
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (artifacts.ROOT, len(root) + 2, root, len(root) + 1, f"{root}/"),
            )
            changed += found.rowcount
        changed += _make_datasets_relative(connection, _path(root).parent)
    connection.execute("COMMIT")
    return changed


def _roots(connection: sqlite3.Connection, database: Path) -> list[str]:
    """Return the addresses of folders that workspaces kept these artifacts in."""
    locations = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    pattern = rf"(file:.*/{artifacts.FOLDER})(/[0-9]+)?"
    matches = (re.fullmatch(pattern, location or "") for (location,) in locations)
    roots = {match[1] for match in matches if match is not None}
    return sorted(root for root in roots if _was_a_workspaces(_path(root), database))


def _was_a_workspaces(folder: Path, database: Path) -> bool:
    """Return whether a folder of artifacts is, or was, that of a workspace with this database.

    It belongs to this workspace, or to the one of which this is a copy, or it no longer exists.
    """
    own = folder.parent.resolve() == database.parent.resolve()
    return own or not folder.exists() or folder.with_name(database.name).exists()


def _path(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))


def _make_datasets_relative(connection: sqlite3.Connection, workspace: Path) -> int:
    """Let datasets name tables relative to the workspace, and return the number of those that did
    not."""
    relative = {str(workspace / table.path): table.path for table in TABLES}
    changed = 0
    for uuid, source in connection.execute(
        "SELECT dataset_uuid, dataset_source FROM datasets"
    ).fetchall():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            described = json.loads(source)
            described["path"] = relative[described["path"]]
            connection.execute(
                "UPDATE datasets SET dataset_source = ? WHERE dataset_uuid = ?",
                (json.dumps(described), uuid),
            )
            changed += 1
    return changed
