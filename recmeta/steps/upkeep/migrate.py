"""a workspace of an earlier version ──▶ one in the format of this version.

Each migration leads from one format to the next (`recmeta.workspace.format_version`) and does
nothing if it is already done. The format is written after it, so that a workspace in which it was
killed can be migrated again. The tables, models and manifests do not change.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from recmeta.errors import UserError
from recmeta.registry import database, tracking
from recmeta.registry.artifacts import database_path
from recmeta.registry.old_locations import make_relative
from recmeta.workspace import Workspace, format_version, writes_alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Migration:
    """What was changed."""

    format_before: int
    format: int
    changes: tuple[str, ...]
    """Sentences on what changed; empty if nothing had to be done."""


@writes_alone
def run(workspace: Workspace) -> Migration:
    """Bring a workspace up to date; one that already is, or that does not exist, is left unchanged.

    Raises:
        UserError: for a workspace of a later version of recmeta.
        WorkspaceBusyError: while any other command works in it.
    """
    before = format_version.format_of(workspace)
    if not workspace.exists("tables"):
        return Migration(format_before=before, format=before, changes=())
    changes = []
    for number in range(before, format_version.NOW):
        changes += MIGRATIONS[number](workspace)
        format_version.write(workspace, number + 1)
        changes.append(f"The workspace has format {number + 1}.")
    changes += _upgrade_store(workspace)
    return Migration(format_before=before, format=format_version.NOW, changes=tuple(changes))


def _from_1(workspace: Workspace) -> list[str]:
    """Let MLflow's store name its artifacts by places in the workspace, which may then be moved."""
    path = _own_store(workspace)
    if path is None:
        return []
    changed = make_relative(path)
    return [f"{changed} addresses in {tracking.DATABASE} are relative."] if changed else []


def _upgrade_store(workspace: Workspace) -> list[str]:
    """Bring MLflow's own tables up to date if its file is in the workspace, since a later MLflow
    refuses older ones. The database of a server is its operator's responsibility."""
    path = _own_store(workspace)
    if path is None:
        return []
    before, after = database.upgrade(path)
    if before == after:
        return []
    return [f"{tracking.DATABASE} has MLflow's schema {after}; it had {before}."]


def _own_store(workspace: Workspace) -> Path | None:
    try:
        uri = tracking.tracking_uri(workspace)
    except UserError:  # in an object store, without a server: there is none
        return None
    path = database_path(uri)
    return path if path is not None and path.exists() else None


MIGRATIONS: Mapping[int, Callable[[Workspace], list[str]]] = {1: _from_1}
"""The migration from each format to the next, which returns sentences on what it changed."""
