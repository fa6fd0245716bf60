"""MLflow's SQLite database of a workspace, made in one move.

MLflow creates its tables by dozens of migrations, which SQLite cannot take back together: a process
that is killed among them leaves a database that no later one can open. So it is made under another
name, and gets its own when it is whole.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from recmeta.registry.artifacts import ROOT, database_path
from recmeta.workspace import Workspace
from recmeta.workspace.folder import sync_folder
from recmeta.workspace.privacy import make_private


def is_there(uri: str) -> bool:
    """Return whether there may be a store: False for the address of a SQLite file that is not."""
    path = database_path(uri)
    return path is None or path.exists()


def create_database(uri: str, workspace: Workspace) -> None:
    """Make the SQLite file of a store, with artifacts beside it; where there is one, do nothing.

    Args:
        uri: address of the store; others than SQLite files are left alone.
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
