"""The folders that exports write into."""

from collections.abc import Sequence

from recmeta.errors import UserError
from recmeta.steps.serving.list_files import lies_in
from recmeta.workspace import Folder, Workspace

MARK = "fingerprint"
"""A key of the JSON file that every export leaves."""


def export_folder(
    workspace: Workspace, option: str, location: str, names: Sequence[str], description: str
) -> Folder:
    """Return the folder to export into; nothing is made yet.

    Args:
        option: what names the location on the command line.
        names: of the files that the export writes or deletes.
        description: the one of them that says in JSON what was exported.

    Raises:
        UserError: for a place in the workspace, whose users can be forgotten, and for a folder with
            files of these names that no export wrote.
    """
    if lies_in(workspace, location):
        raise UserError(f"{option} {location!r} lies in the workspace: name a place outside of it.")
    folder = Folder.at(location)
    taken = [name for name in names if folder.exists(name)]
    if taken and not _is_export(folder, description):
        raise UserError(
            f"{option} {location!r} has a {taken[0]} that no export wrote and that this one would "
            "replace or delete: name another folder."
        )
    return folder


def _is_export(folder: Folder, description: str) -> bool:
    """Return whether an export has left its description."""
    try:
        found = folder.read_json(description)
    except (FileNotFoundError, UserError):
        return False
    return isinstance(found, dict) and MARK in found
