"""A version that inspects beside the active one, and never answers."""

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from twonines.errors import TwoninesError
from twonines.serving.batcher import Answer
from twonines.serving.loaded import LoadedModel
from twonines.serving.metrics import Metrics

log = logging.getLogger(__name__)
KEPT = 50
"""Differences that are kept to be looked at."""


class ShadowMetrics:
    """What shadows find, in the service's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register."""
        self.pictures = Counter(
            "twonines_shadow_pictures",
            "Pictures of the active version that its shadow inspected too, by what came of it",
            ["model", "outcome"],
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class _Said:
    version: str
    verdict: str
    score: float | None
    defect_class: str | None

    def shown(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "verdict": self.verdict,
            "score": self.score,
            "class": self.defect_class,
        }


class Shadow:
    """Gives every picture of the active version to another one as well, and compares.

    It has a batcher of its own, so that verdicts and batches in the metrics are those of the
    answers, and so that a full queue costs comparisons, never answers.
    """

    def __init__(self, loaded: LoadedModel, metrics: ShadowMetrics) -> None:
        """Start to run beside."""
        self.loaded = loaded
        self._batcher = loaded.make_batcher(Metrics())
        self._metrics = metrics
        self._counts = {"same": 0, "verdict": 0, "class": 0, "error": 0, "skipped": 0}
        self._shift_sum = self._shift_max = 0.0
        self._scored = 0
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def mirror(
        self,
        version: str,
        pictures: Sequence[bytes],
        reference: bytes | list[bytes] | None,
        answers: "Sequence[Future[Answer]]",
    ) -> None:
        """Inspect what ``version``, the active one, inspects; returns at once."""
        try:
            twins = self._batcher.submit_all(pictures, reference)
        except TwoninesError:  # full, too slow, or its session is being replaced
            for _ in pictures:
                self._count("skipped")
            return
        for picture, answer, twin in zip(pictures, answers, twins, strict=True):
            self._join(version, picture, answer, twin)

    def _join(
        self, version: str, picture: bytes, answer: "Future[Answer]", twin: "Future[Answer]"
    ) -> None:
        def first(done: "Future[Answer]") -> None:
            if done.cancelled():
                twin.cancel()
            else:
                twin.add_done_callback(second)

        def second(done: "Future[Answer]") -> None:
            if not done.cancelled():
                self._compare(picture, _said(version, answer), _said(self.loaded.version, done))

        answer.add_done_callback(first)

    def _compare(self, picture: bytes, active: _Said, shadow: _Said) -> None:
        if active.verdict != shadow.verdict:
            kind = "error" if "ERROR" in (active.verdict, shadow.verdict) else "verdict"
        else:
            kind = "same" if active.defect_class == shadow.defect_class else "class"
        self._count(kind)
        with self._lock:
            if active.score is not None and shadow.score is not None:
                shift = abs(active.score - shadow.score)
                self._scored += 1
                self._shift_sum += shift
                self._shift_max = max(self._shift_max, shift)
            if kind != "same":
                digest = hashlib.sha256(picture)
                self._last.append(
                    {
                        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                        "kind": kind,
                        "picture_sha256": digest.hexdigest(),
                        "active": active.shown(),
                        "shadow": shadow.shown(),
                    }
                )

    def _count(self, outcome: str) -> None:
        self._metrics.pictures.labels(self.loaded.name, outcome).inc()
        with self._lock:
            self._counts[outcome] += 1

    def report(self) -> dict[str, Any]:
        """Counts, score shift and the last differences, newest last."""
        with self._lock:
            counts = dict(self._counts)
            return {
                **self.loaded.short,
                "compared": sum(counts.values()) - counts["skipped"],
                "counts": counts,
                "mean_score_shift": self._shift_sum / max(1, self._scored),
                "max_score_shift": self._shift_max,
                "differences": list(self._last),
            }

    def close(self) -> None:
        """Compare what was taken, then stop; blocks."""
        self._batcher.close()
        del self._batcher


def _said(version: str, done: "Future[Answer]") -> _Said:
    if done.exception() is not None:
        return _Said(version, "ERROR", None, None)
    found = done.result().inspection
    return _Said(version, found.verdict.value, found.score, found.defect_class)
