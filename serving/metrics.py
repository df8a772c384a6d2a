"""Prometheus metrics of one service, in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric; base units, Prometheus naming."""

    def __init__(self) -> None:
        """Register all metrics."""
        self.registry = CollectorRegistry()
        self.request = self._seconds("request", "From the first byte to the answer")
        self.decode = self._seconds("decode", "Decode and resize of one picture")
        self.queue = self._seconds("queue", "Wait of a decoded picture for the session")
        self.compute = self._seconds("compute", "One run of the session over a batch")
        self.decision = self._seconds("decision", "Decision on one batch")
        self.batch_size = Histogram(
            "twonines_batch_size", "Pictures in a batch", buckets=_SIZES, registry=self.registry
        )
        self.pending = Gauge(
            "twonines_pending_pictures", "Pictures taken, not answered", registry=self.registry
        )
        self.requests = Gauge(
            "twonines_pending_requests", "Requests not answered yet", registry=self.registry
        )
        self.rejected = Counter(
            "twonines_rejected", "Requests and files refused", ["reason"], registry=self.registry
        )
        self.verdicts = Counter(
            "twonines_verdict", "Verdicts given", ["verdict"], registry=self.registry
        )
        self.inferences = Counter(
            "twonines_inference", "Pictures inspected", registry=self.registry
        )
        self.executions = Counter("twonines_exec", "Batches run", registry=self.registry)
        self.model = Gauge(
            "twonines_model_version_info",
            "The model that answers",
            ["name", "version", "digest", "execution_provider"],
            registry=self.registry,
        )

    def _seconds(self, stage: str, text: str) -> Histogram:
        return Histogram(
            f"twonines_{stage}_duration_seconds", text, buckets=_SECONDS, registry=self.registry
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
