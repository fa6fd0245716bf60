"""Where the events of a workspace are: in a database on its disk, or in objects."""

from pathlib import Path

from recmeta.logs.events.objects import ObjectEventStore
from recmeta.logs.events.store import FILE, FOLDER, EventStore
from recmeta.workspace import Workspace


def event_store(workspace: Workspace) -> EventStore | None:
    """Return the events of a workspace; None if there are none."""
    if not workspace.exists(FOLDER if not workspace.is_local else f"{FOLDER}/{FILE}"):
        return None
    return make_event_store(workspace)


def make_event_store(workspace: Workspace) -> EventStore:
    """Return the events of a workspace, creating what holds them if there is nothing.

    Raises:
        OSError: if an object store does not answer.
    """
    if workspace.is_local:
        return EventStore(Path(workspace.local_path()) / FOLDER / FILE)
    return ObjectEventStore(workspace / FOLDER)
