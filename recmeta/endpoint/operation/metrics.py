"""Metrics for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
USERS = (1, 2, 4, 8, 16, 32, 64)


class _AnsweringModel(Collector):
    """The version that answers, and no other: a gauge with labels would keep earlier versions."""

    version: str | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield 1 for the version, once there is one."""
        detail = "1 for the version of the model that answers."
        family = GaugeMetricFamily("recmeta_model_info", detail, labels=["version"])
        if self.version is not None:
            family.add_metric([self.version], 1)
        yield family


class Metrics:
    """The endpoint's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.seconds = Histogram(
            "recmeta_request_seconds",
            "From a whole request to its answer's last byte.",
            ["route", "status"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.batch_users = Histogram(
            "recmeta_batch_users",
            "Users that were adapted together.",
            buckets=USERS,
            registry=self._registry,
        )
        self.batch_seconds = Histogram(
            "recmeta_batch_seconds",
            "Time of adapting and ranking one batch.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.queue = Gauge(
            "recmeta_queue_users", "Users that wait for a batch.", registry=self._registry
        )
        self.shed = Counter(
            "recmeta_shed_total",
            "Requests refused: queue (503), rate (429), no_champion (503).",
            ["reason"],
            registry=self._registry,
        )
        self.connections = Gauge(
            "recmeta_connections", "Open connections.", registry=self._registry
        )
        self.refused_early = Counter(
            "recmeta_refused_total",
            "Connections and requests refused before the application was asked: by the limit that "
            "they met, malformed, or gave_way, which is an old connection closed for a new one.",
            ["reason"],
            registry=self._registry,
        )
        self._model = _AnsweringModel()
        self._registry.register(self._model)
        self.loaded = Gauge(
            "recmeta_model_loaded_timestamp_seconds",
            "When that version began to answer.",
            registry=self._registry,
        )
        self.poll_failures = Counter(
            "recmeta_champion_poll_failures_total",
            "Times that the registry or a new champion could not be read.",
            registry=self._registry,
        )
        self.refused = Counter(
            "recmeta_champion_refused_total",
            "Trials of a new champion that crashed, were too slow or failed; the one before stays.",
            ["why"],
            registry=self._registry,
        )
        self.online_failures = Counter(
            "recmeta_online_store_failures_total",
            "Batches answered without the online store, because it failed.",
            registry=self._registry,
        )

        self.events = Counter(
            "recmeta_events_total",
            "Events that were sent: accepted, duplicate, failed.",
            ["outcome"],
            registry=self._registry,
        )

    def answers(self, version: str, at: float) -> None:
        """Note that a version answers since then (seconds since 1970)."""
        self._model.version = version
        self.loaded.set(at)

    def to_text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self._registry)
