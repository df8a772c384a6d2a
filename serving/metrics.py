"""Prometheus metrics of one service, in a registry of its own."""

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from twonines.serving.watch import THRESHOLD

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ModelValues(NamedTuple):
    """What is asked of the version that answers, as often as metrics are read."""

    waiting: Callable[[], float]
    cost_fixed: Callable[[], float]
    cost_each: Callable[[], float]
    rechecked: Callable[[], float]
    certificate: Callable[[], float]
    evidence: Callable[[], float]


class Metrics:
    """Every metric; base units, Prometheus naming."""

    def __init__(self) -> None:
        """Register all metrics."""
        self.registry = CollectorRegistry()
        self.request = self._seconds(
            "request", "From the first byte to the answer, of what was not refused at once"
        )
        self.refusal = self._seconds("refusal", "From a request's start to its 429 or 503")
        self.decode_queue = self._seconds("decode_queue", "Wait of a picture for a decoder")
        self.decode = self._seconds("decode", "Decode of one picture")
        self.resize = self._seconds("resize", "Resize of one picture, and cut into tiles")
        self.queue = self._seconds("queue", "Wait of a decoded picture for the session")
        self.compute = self._seconds("compute", "One run of the session over a batch")
        self.decision = self._seconds("decision", "Decision on one batch")
        self.record = self._seconds("record", "Wait of an answer until it is on disk")
        self.batch_size = Histogram(
            "twonines_batch_size",
            "Pictures or tiles in a batch",
            buckets=_SIZES,
            registry=self.registry,
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
        self.unrecorded = Counter(
            "twonines_unrecorded", "Inspections that could not be recorded", registry=self.registry
        )
        self.store_failing = Gauge(
            "twonines_store_failing", "1 while inspections cannot be recorded",
            registry=self.registry,
        )  # fmt: skip
        self.inferences = Counter(
            "twonines_inference", "Pictures or tiles inspected", registry=self.registry
        )
        self.executions = Counter("twonines_exec", "Batches run", registry=self.registry)
        self.replaced = Counter(
            "twonines_session_replaced", "Broken sessions replaced", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self._waiting = self._gauge("waiting_pictures", "Decoded pictures that wait")
        self._cost_fixed = self._gauge(
            "batch_fixed_seconds", "Fitted cost of a batch, whatever it holds"
        )
        self._cost_each = self._gauge("batch_input_seconds", "Fitted cost of each input in a batch")
        self._rechecked = self._gauge(
            "rechecked_inputs",
            "Pictures or tiles near a limit that ran again in float32 since the model was loaded",
        )
        self.model = Gauge(
            "twonines_model_version_info",
            "The model that answers",
            ["name", "version", "digest", "execution_provider"],
            registry=self.registry,
        )
        self._certificate = self._gauge(
            "certificate_valid",
            "1 while the model's certificate holds; 0 where it is void or withdrawn, or none is",
        )
        self._evidence = self._gauge(
            "drift_evidence",
            f"Evidence that pictures are not as in calibration; withdrawn from {THRESHOLD:.0f} on",
        )

    def _seconds(self, stage: str, text: str) -> Histogram:
        return Histogram(
            f"twonines_{stage}_duration_seconds", text, buckets=_SECONDS, registry=self.registry
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"twonines_{name}", text, ["name", "version"], registry=self.registry)

    def watch_model(self, name: str, version: str, values: ModelValues) -> None:
        """Ask for a version's own values whenever metrics are read, until it is forgotten."""
        for gauge, value in zip(self._of_model, values, strict=True):
            gauge.labels(name, version).set_function(value)

    def forget_model(self, name: str, version: str) -> None:
        """The version does not answer any more."""
        for gauge in self._of_model:
            gauge.remove(name, version)

    @property
    def _of_model(self) -> tuple[Gauge, ...]:
        return (
            self._waiting, self._cost_fixed, self._cost_each, self._rechecked, self._certificate,
            self._evidence,
        )  # fmt: skip

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
