"""Taking back that a step was done, when its outputs are deleted."""

from recmeta.manifest import LATEST
from recmeta.workspace import Workspace


def forget(workspace: Workspace, step: str, key: str) -> None:
    """Delete a step's manifest, so that the step is done anew if it is asked for again.

    Call it before the outputs are deleted: where a manifest stands, the outputs are whole.
    """
    folder = workspace / "manifests" / step
    if folder.exists(LATEST) and folder.read_json(LATEST)["key"] == key:
        folder.filesystem.delete_file(f"{folder.path}/{LATEST}")
    if folder.exists(f"{key}.json"):
        folder.filesystem.delete_file(f"{folder.path}/{key}.json")
