"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts of requests and images, and how long answers took, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("kilonet_requests", "Requests answered.", ("path", "status"), registry=self._registry)
        self._seconds = Histogram(
            "kilonet_request_seconds", "From a request's headers to the end of its answer.", ("path",),
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._images = Counter(
            "kilonet_images", "Images predicted, by the kind of body they came in.", ("body",), registry=self._registry
        )
        self._blank = Counter("kilonet_nothing_drawn", "Pictures in which nothing was drawn.", registry=self._registry)
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._of_body: dict[str, Counter] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is one of the server's own, or a word for all others."""
        found = self._known.get((path, status))
        if found is None:
            found = self._known[path, status] = (self._requests.labels(path, str(status)), self._seconds.labels(path))
        found[0].inc()
        found[1].observe(seconds)

    def refused(self, status: int) -> None:
        """Count what was refused before it was a request of some path."""
        self._requests.labels("none", str(status)).inc()

    def predicted(self, body: str, images: int, blank: int = 0) -> None:
        """Count images, and pictures in which nothing was drawn."""
        found = self._of_body.get(body)
        if found is None:
            found = self._of_body[body] = self._images.labels(body)
        found.inc(images)
        if blank:
            self._blank.inc(blank)

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)
