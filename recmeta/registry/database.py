"""MLflow's SQLite database of a workspace, made atomically.

MLflow creates its tables by dozens of migrations, which SQLite cannot roll back together: a process
that is killed in between leaves a database that no later process can open. The database is
therefore made under another name, and gets its own when it is complete.
"""

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

from recmeta.registry.artifacts import ROOT, database_path
from recmeta.workspace import Workspace
from recmeta.workspace.folder import sync_folder
from recmeta.workspace.privacy import make_private


def is_there(uri: str) -> bool:
    """Return whether there may be a store: False for the address of a SQLite file that does not
    exist."""
    path = database_path(uri)
    return path is None or path.exists()


def create_database(uri: str, workspace: Workspace) -> None:
    """Make the SQLite file of a store, with artifacts beside it; if it exists, do nothing.

    Args:
        uri: address of the store; stores other than SQLite files are ignored.
        workspace: has the unfinished database, if it is to have the finished one.
    """
    path = database_path(uri)
    if path is None or path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    make_private(path.parent)
    if workspace.is_local and path.parent == Path(workspace.path):
        temporary: contextlib.AbstractContextManager[str] = workspace.temporary_folder()
    else:
        temporary = tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent)
    with temporary as folder:
        unfinished = Path(folder) / path.name
        store = SqlAlchemyStore(f"sqlite:///{unfinished}", ROOT)
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(unfinished, path)
            sync_folder(str(path.parent))


def upgrade(path: Path) -> tuple[str | None, str]:
    """Upgrade the tables of a SQLite store to those of the installed MLflow.

    This is done in a copy, which then replaces the file, since MLflow's migrations cannot be rolled
    back together.

    Returns:
        The versions of MLflow's schema before and after.
    """
    from mlflow.store.db.utils import (
        _get_latest_schema_revision,
        _get_schema_version,
        _upgrade_db,
        create_sqlalchemy_engine,
    )

    def version(file: Path) -> str | None:
        engine = create_sqlalchemy_engine(f"sqlite:///{file}")
        try:
            found: str | None = _get_schema_version(engine)
            return found
        finally:
            engine.dispose()

    before, latest = version(path), str(_get_latest_schema_revision())
    if before == latest:
        return before, latest
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        copy = Path(folder) / path.name
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        engine = create_sqlalchemy_engine(f"sqlite:///{copy}")
        _upgrade_db(engine)
        engine.dispose()
        copy.chmod(path.stat().st_mode)
        copy.replace(path)
        sync_folder(str(path.parent))
    return before, latest
