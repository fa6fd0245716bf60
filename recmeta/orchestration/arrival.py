"""Wait for a file without keeping a worker: runs in Airflow's triggerer, among many others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from recmeta.logs.reading.partitions import has_arrived


class ArrivalTrigger(BaseTrigger):  # type: ignore[misc]  # Airflow is not typed for us
    """Fires once when there is something at every path, local or in an object store."""

    def __init__(self, paths: list[str], poll_seconds: float) -> None:
        super().__init__()
        self.paths = paths
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how the triggerer makes this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"paths": self.paths, "poll_seconds": self.poll_seconds},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, with the paths, when all of them are there."""
        for path in self.paths:
            while not await asyncio.to_thread(has_arrived, path):
                await asyncio.sleep(self.poll_seconds)
        yield TriggerEvent({"paths": self.paths})
