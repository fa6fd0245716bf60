"""The owners of runs in MLflow, so that a run whose owner was killed does not stay RUNNING for
ever.

A process that begins or resumes a run names itself in a tag, and records every minute that it is
alive. If the store is the workspace's own, a lock in the workspace shows whether an owner on this
machine is alive (`recmeta.workspace.temporary`). For other owners, only the time of the last sign
of life is known.
"""

import contextlib
import datetime
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from recmeta.registry import artifacts
from recmeta.registry.tracking import connect, model_name
from recmeta.workspace import Workspace

OWNER: Final = "recmeta.owner"
ALIVE_AT: Final = "recmeta.alive_at"
"""The tag with the time of the owner's last sign of life, ISO 8601 in UTC."""
BEAT_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 3600.0
"""Seconds after which an owner that cannot be checked counts as dead."""


def connect_to_write(workspace: Workspace) -> Any:
    """Return `connect`'s client after closing the runs of this model whose owners are dead."""
    client = connect(workspace)
    close_abandoned(client, workspace)
    return client


def close_abandoned(client: Any, workspace: Workspace) -> list[str]:
    """End the runs that are RUNNING although their owners are dead, as KILLED.

    Returns:
        Their ids.
    """
    experiment = client.get_experiment_by_name(model_name())
    if experiment is None:
        return []
    dead = [
        run.info.run_id
        for run in _running(client, experiment.experiment_id)
        if not _is_alive(client, workspace, run)
    ]
    for run_id in dead:
        client.set_terminated(run_id, "KILLED")
    return dead


def own(client: Any, workspace: Workspace, run_id: str) -> None:
    """Make this process the owner of a run that continues."""
    for name, value in tags_of_owner(workspace).items():
        client.set_tag(run_id, name, value)
    client.update_run(run_id, status="RUNNING")


def tags_of_owner(workspace: Workspace) -> dict[str, str]:
    """Return the tags of a run that this process owns."""
    return {OWNER: workspace.process_id(), ALIVE_AT: _now().isoformat(timespec="seconds")}


class Heartbeat:
    """Records every `BEAT_SECONDS` that the owner of runs is alive. It is a context manager."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._runs: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="recmeta-heartbeat", daemon=True)

    def add(self, run_id: str) -> None:
        """Record it for a run, too."""
        self._runs = self._runs | {run_id}

    def remove(self, run_id: str) -> None:
        """Stop recording it for a run."""
        self._runs = self._runs - {run_id}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._ended.set()  # does not wait for a request in progress

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            now = _now().isoformat(timespec="seconds")
            for run_id in self._runs:
                with contextlib.suppress(Exception):  # the store may be back at the next beat
                    self._client.set_tag(run_id, ALIVE_AT, now)


def _running(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], "attributes.status = 'RUNNING'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _is_alive(client: Any, workspace: Workspace, run: Any) -> bool:
    tags = run.data.tags
    if OWNER in tags and _is_its_own(client, workspace):
        known = workspace.is_alive(tags[OWNER])
        if known is not None:
            return known
    said = datetime.datetime.fromtimestamp(run.info.start_time / 1000, datetime.UTC)
    with contextlib.suppress(KeyError, ValueError):
        said = datetime.datetime.fromisoformat(tags[ALIVE_AT])
    return (_now() - said).total_seconds() < SILENT_SECONDS


def _is_its_own(client: Any, workspace: Workspace) -> bool:
    """Return whether the store is the workspace's SQLite file."""
    database = artifacts.database_path(client.tracking_uri)
    if database is None or not workspace.is_local:
        return False
    return database.parent.resolve() == Path(workspace.path).resolve()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
