"""MLflow's SQLite database of a workspace, made in one move.

MLflow creates its tables by dozens of migrations, which SQLite cannot take back together: a process
that is killed among them leaves a database that no later one can open. So it is made under another
name, and gets its own when it is whole.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from recmeta.workspace.privacy import make_private

_SCHEME = "sqlite:///"


def is_there(uri: str) -> bool:
    """Return whether there may be a store: False for the address of a SQLite file that is not."""
    return not uri.startswith(_SCHEME) or Path(uri.removeprefix(_SCHEME)).exists()


def create_database(uri: str, artifacts: str) -> None:
    """Make the database of a `sqlite:///` address; nothing happens where there is one already.

    Args:
        uri: address of the store; others than SQLite files are left alone.
        artifacts: where the default experiment keeps its artifacts, a URI.
    """
    if is_there(uri):
        return
    path = Path(uri.removeprefix(_SCHEME))
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    make_private(path.parent)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        store = SqlAlchemyStore(f"{_SCHEME}{unfinished}", artifacts)
        store.engine.dispose()
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(unfinished, path)
