"""Waiting for a day's log without occupying a worker."""

from typing import Any

from airflow.sdk import BaseOperator, Context

from recmeta.orchestration.settings import done_file, mapping


class WaitForLog(BaseOperator):  # type: ignore[misc]  # Airflow's types are not read here
    """Succeeds when the log of a day exists and is complete; until then the triggerer waits, not a
    worker."""

    template_fields = ("day",)

    def __init__(self, *, day: Any, poll_seconds: float, **kwargs: Any) -> None:
        """Take the day to wait for.

        Args:
            day: the day, as 2026-01-31; an XCom or a template.
            poll_seconds: how often the triggerer checks.
            kwargs: of any operator; `execution_timeout` is how long the log is waited for.
        """
        super().__init__(**kwargs)
        self.day = day
        self.poll_seconds = poll_seconds

    def execute(self, context: Context) -> list[str]:
        """Return the paths if all are complete, otherwise wait for them."""
        from recmeta.logs.reading.partitions import has_arrived, mapping_of, parse_day
        from recmeta.orchestration.arrival import ArrivalTrigger

        pattern, day, marker = mapping(), parse_day(self.day), done_file()
        log = mapping_of(pattern, day)
        pairs = [(pattern, log), (pattern.users, log.users), (pattern.items, log.items)]
        # Files of attributes that are not written daily have no mark of the day.
        awaited = {
            dated.path: None if dated.path == source.path else marker
            for source, dated in pairs
            if source is not None and dated is not None
        }
        paths, done_files = list(awaited), list(awaited.values())
        if not all(map(has_arrived, paths, done_files)):
            self.defer(
                trigger=ArrivalTrigger(paths, self.poll_seconds, done_files),
                method_name="arrived",
                timeout=self.execution_timeout,
            )
        return paths

    def arrived(self, context: Context, event: dict[str, list[str]]) -> list[str]:
        """Return the paths that the trigger has seen."""
        return event["paths"]
