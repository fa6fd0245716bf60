"""Which champion answers, and how a new one takes over.

A thread asks the source every few seconds. A new version is tried in a process of its own, then
loaded and warmed beside the old one, and one assignment swaps them. A request keeps the champion
that it began with, so that none is dropped or answered by two. A version that is refused is tried
again, at growing intervals, as long as it is the newest.

Several times a minute, Python's cyclic garbage collector would traverse the hundreds of thousands
of objects that libraries make when they are imported, and stop every thread meanwhile. All objects
that exist when the first champion is ready are therefore excluded from collection.
"""

import dataclasses
import gc
import logging
import threading
import time

from recmeta.endpoint.answers.champion import ChampionSource, ServedChampion
from recmeta.endpoint.answers.trial import ChampionRefused
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.errors.causes import explained

log = logging.getLogger(__name__)


FIRST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
"""Seconds before a version that was refused is tried again; they double each time."""


@dataclasses.dataclass(frozen=True)
class RefusedVersion:
    """A version that was refused."""

    version: str
    reason: str
    """The reason, for whoever watches the server."""
    pause: float
    """Seconds before it is tried again."""
    again: float
    """The time of the next trial, on the monotonic clock."""


class ChampionHolder:
    """Holds the champion that answers now."""

    def __init__(
        self,
        source: ChampionSource,
        *,
        poll_seconds: float,
        trial_seconds: float,
        metrics: Metrics,
        first: ServedChampion | None = None,
    ) -> None:
        self._source = source
        self._trial_seconds = trial_seconds
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="recmeta-champion", daemon=True)
        self.current: ServedChampion | None = None
        """Read it once per request; None before the first promotion."""
        self.refused: RefusedVersion | None = None
        """The newest version, if it failed and another one answers."""
        if first is not None:
            self._take_over(first)

    def start(self) -> None:
        """Begin to watch; the first champion comes as soon as it is loaded."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Stop watching, and return whether that was done in time.

        Args:
            seconds: how long to wait for a load in progress; a trial in progress is given up.
        """
        self._stop.set()
        self._thread.join(seconds)
        gc.unfreeze()
        return not self._thread.is_alive()

    def refresh(self) -> None:
        """Switch to the source's champion if it is another one. The old one stays if that fails."""
        try:
            newest = self._source.newest()
        except Exception as error:
            self._metrics.poll_failures.inc()
            why = explained(error)
            log.error(
                "the registry could not be read; the present champion keeps answering",
                exc_info=why is None,
                extra={"fields": {"why": why}},
            )
            return
        if newest is None or newest == (None if self.current is None else self.current.version):
            self.refused = None
            return
        refused = self.refused
        if refused and refused.version == newest and time.monotonic() < refused.again:
            return
        try:
            self._source.try_out(newest, seconds=self._trial_seconds, stopping=self._stop)
            champion = self._source.load(newest)
        except Exception as error:
            if not self._stop.is_set():
                self._refuse(newest, error)
            return
        self.refused = None
        self._take_over(champion)

    def _refuse(self, version: str, error: Exception) -> None:
        """Keep the present champion, and say so."""
        is_refused = isinstance(error, ChampionRefused)
        why = error.why if isinstance(error, ChampionRefused) else "failed"
        # What an error says of files and addresses is for the log alone.
        reason = str(error) if is_refused else f"version {version} could not be read"
        pause = FIRST_PAUSE
        if self.refused is not None and self.refused.version == version:
            pause = min(2 * self.refused.pause, LONGEST_PAUSE)
        self.refused = RefusedVersion(version, reason, pause, time.monotonic() + pause)
        self._metrics.poll_failures.inc()
        self._metrics.refused.labels(why).inc()
        log.error("the present champion keeps answering: %s", reason, exc_info=error)

    def _take_over(self, champion: ServedChampion) -> None:
        before = None if self.current is None else self.current.version
        if self.current is None:
            gc.collect()
            gc.freeze()
        self.current = champion
        self._metrics.answers(champion.version, time.time())
        fields = {"model_version": champion.version, "before": before}
        log.info("champion", extra={"fields": fields})

    def _watch(self) -> None:
        self.refresh()
        if self.current is None:
            log.warning("no champion yet: requests get 503 until `recmeta run` promotes one")
        while not self._stop.wait(self._poll_seconds):
            self.refresh()
