"""Permissions of files on a machine that several people use.

A workspace holds what people did. When recmeta makes one, its folder is open to its owner alone,
which closes everything below it, whatever writes there. An existing folder keeps its permissions,
which is how a team shares a workspace.
"""

import os
import stat
from pathlib import Path

from recmeta.errors import UserError

PRIVATE = 0o700
"""Permissions of a folder that only its owner can enter."""
UMASK = 0o077
"""The umask of processes whose files are open to their owner alone."""


def make_private(folder: Path) -> None:
    """Make a folder for its owner alone; one that is there stays as it is. Folders above it are
    made as the process makes folders."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=PRIVATE, exist_ok=True)


def require_own(folder: Path) -> None:
    """Check a folder in a place where everybody may make one, such as `/tmp`.

    Raises:
        UserError: if it belongs to another user, or others may write to it, so that files there
            could be read or replaced.
    """
    if not hasattr(os, "getuid"):
        return
    found = folder.lstat()
    is_folder, is_mine = stat.S_ISDIR(found.st_mode), found.st_uid == os.getuid()
    if not is_folder or not is_mine or found.st_mode & 0o022:
        raise UserError(
            f"{folder} is not a folder of this user's alone, and temporary files with personal "
            "data would go there: delete it, or set TMPDIR to a folder of your own."
        )


def readable_by_others(file: Path) -> bool:
    """Return whether every account of the machine may read a file."""
    return bool(file.stat().st_mode & stat.S_IROTH)
