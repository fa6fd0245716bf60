"""Waiting for a file without occupying a worker: this runs in Airflow's triggerer, among many
others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from recmeta.logs.reading.partitions import has_arrived


class ArrivalTrigger(BaseTrigger):  # type: ignore[misc]  # Airflow is not typed for us
    """Fires once when every path, local or in an object store, exists and is complete."""

    def __init__(
        self, paths: list[str], poll_seconds: float, done_files: Sequence[str | None] = ()
    ) -> None:
        """Take the paths to wait for.

        Args:
            done_files: for each path the file that is written last into it, or None; see
                `has_arrived`. If empty, no such files are required.
        """
        super().__init__()
        self.paths = paths
        self.poll_seconds = poll_seconds
        self.done_files = list(done_files) or [None] * len(paths)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how the triggerer recreates this trigger."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "paths": self.paths,
                "poll_seconds": self.poll_seconds,
                "done_files": self.done_files,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, with the paths, when all of them are there."""
        for path, done_file in zip(self.paths, self.done_files, strict=True):
            while not await asyncio.to_thread(has_arrived, path, done_file):
                await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"paths": self.paths})
