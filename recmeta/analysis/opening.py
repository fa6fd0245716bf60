"""The way into a workspace, which is light until it is taken."""

import os
from typing import TYPE_CHECKING

from recmeta import extras
from recmeta.errors.causes import noted

if TYPE_CHECKING:
    from recmeta.analysis.open_workspace import OpenWorkspace


@noted()
def open_workspace(location: str | os.PathLike[str] = "workspace") -> "OpenWorkspace":
    """Return a workspace, opened for reading: tables, tasks, manifests, evaluation, models.

    Args:
        location: a folder or an address in an object store.

    Raises:
        UserError: where there is no workspace, or the pipeline is not installed.

    >>> import recmeta
    >>> recmeta.open_workspace("no-such-folder")
    Traceback (most recent call last):
    recmeta.errors.UserError: ...no-such-folder is not a workspace: it has no tables. ...
    """
    with extras.explained():
        from recmeta.analysis.open_workspace import OpenWorkspace

    return OpenWorkspace(location)
