"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "laglite_requests", "Requests answered.", ("endpoint", "method", "status"),
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "laglite_request_seconds", "From the request's head to the whole answer.",
            ("endpoint",), buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "laglite_requests_in_flight", "Requests read, waiting or computed.", registry=registry
        )
        self.waiting = Gauge(
            "laglite_queue_requests", "Forecast requests that wait.", registry=registry
        )
        self.batch_requests = Histogram(
            "laglite_batch_requests", "Requests forecast together.", buckets=COUNTS,
            registry=registry,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "laglite_batch_seconds", "Computing a batch.", ("model",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.series = Counter(
            "laglite_series", "Series forecast.", ("model",), registry=registry
        )  # fmt: skip
        self.streams = Gauge("laglite_streams", "Streams held in memory.", registry=registry)
        self.stream_values = Counter(
            "laglite_stream_values", "Values taken by streams.", registry=registry
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
