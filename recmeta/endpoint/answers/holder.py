"""Which champion answers, and how a new one takes over.

A thread asks the source every few seconds. A new version is loaded and warmed beside the old one,
then one assignment swaps them. A request keeps the champion that it began with, so that none is
dropped or answered by two.

Python's collector of cyclic garbage would go through all that the libraries made when they were
imported, hundreds of thousands of objects, several times a minute, and stop every thread for it.
So what there is when the first champion is ready is taken out of its sight.
"""

import gc
import logging
import threading
import time

from recmeta.endpoint.answers.champion import ChampionSource, ServedChampion
from recmeta.endpoint.operation.metrics import Metrics

log = logging.getLogger(__name__)


class ChampionHolder:
    """Holds the champion that answers now."""

    def __init__(
        self,
        source: ChampionSource,
        *,
        poll_seconds: float,
        metrics: Metrics,
        first: ServedChampion | None = None,
    ) -> None:
        self._source = source
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="recmeta-champion", daemon=True)
        self.current: ServedChampion | None = None
        """Read it once per request; None before the first promotion."""
        if first is not None:
            self._take_over(first)

    def start(self) -> None:
        """Begin to watch; the first champion comes as soon as it is loaded."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Stop watching, and return whether that was done in time.

        Args:
            seconds: how long a load under way is waited for.
        """
        self._stop.set()
        self._thread.join(seconds)
        gc.unfreeze()
        return not self._thread.is_alive()

    def refresh(self) -> None:
        """Take the source's champion over if it is another one. The old one stays if that fails."""
        try:
            newest = self._source.newest()
            known = None if self.current is None else self.current.version
            if newest is None or newest == known:
                return
            champion = self._source.load(newest)
        except Exception:
            self._metrics.poll_failures.inc()
            log.exception("the champion could not be read; the one at hand goes on answering")
            return
        self._take_over(champion)

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
