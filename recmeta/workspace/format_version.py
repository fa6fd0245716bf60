"""The version of a workspace's layout, written in it: `format.json`.

A workspace without that file was made before the file existed, and has format 1. Whoever writes to
a workspace, or opens it for a command, checks that its format is not that of a later version of
recmeta, which may store things elsewhere and would miss what this one writes. `recmeta migrate`
brings an older one up to date (`recmeta.steps.upkeep.migrate`).
"""

import re
from typing import TYPE_CHECKING

from recmeta.errors import UserError

if TYPE_CHECKING:
    from recmeta.workspace.folder import Folder

FILE = "format.json"
FIRST = 1
"""The format of workspaces without the file."""
NOW = 2
"""The format that this version of recmeta makes."""
_CONTENT = re.compile(rb'\s*\{\s*"format"\s*:\s*([0-9]{1,9})\s*[,}]')


def format_of(workspace: "Folder") -> int:
    """Return the format of a workspace; `FIRST` if it has no such file, or does not exist.

    Raises:
        UserError: if the file cannot be understood.
    """
    try:
        content = workspace.read_bytes(FILE)
    except (FileNotFoundError, NotADirectoryError):
        return FIRST
    found = _CONTENT.match(content)  # a later version may add to the file
    if found is None:
        raise UserError(
            f"{workspace.address(FILE)} does not say which format the workspace has: restore it "
            f'from a backup, or write {{"format": {NOW}}} into it if this version of recmeta made '
            "the workspace."
        )
    return int(found[1])


def check(workspace: "Folder") -> None:
    """Check that a workspace does not have the format of a later version of recmeta.

    Raises:
        UserError: if it has.
    """
    found = format_of(workspace)
    if found > NOW:
        raise UserError(
            f"the workspace {workspace.path} has format {found}, and this version of recmeta knows "
            f"formats up to {NOW}: install the version that wrote it, or a later one, or restore "
            "the backup that was made before `recmeta migrate`."
        )


def write(workspace: "Folder", number: int = NOW) -> None:
    """Record which format a workspace has."""
    workspace.write_json(FILE, {"format": number})
