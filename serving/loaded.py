"""One version of a model, loaded and taking pictures."""

import asyncio
import ctypes
import gc
import hashlib
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twonines.models.inspector import Inspector
from twonines.models.providers import read_model
from twonines.models.session import InspectionSession
from twonines.serving.batcher import Batcher
from twonines.serving.loading import reload_same, warm
from twonines.serving.metrics import Metrics, ModelValues
from twonines.serving.references import StoredReferences, open_references
from twonines.serving.watch import THRESHOLD, Watch, open_watch
from twonines.settings import ServeSettings

log = logging.getLogger(__name__)


Watches = dict[tuple[str, str, str], Watch]
"""By model, version and certificate: the evidence goes on when it is loaded again.

Two versions share none, even under the same certificate: the one that answers and its shadow see
the same pictures, and evidence that counts a picture twice bounds no false alarm.
"""


class LoadedModel:
    """A session with its batcher and watch; closed only when nobody uses it any more.

    Leases belong to the event loop; loading and closing block, and belong to a thread.
    """

    def __init__(
        self,
        name: str,
        version: str,
        path: Path,
        session: InspectionSession,
        references: StoredReferences | None,
        watch: Watch | None,
        settings: ServeSettings,
        metrics: Metrics,
        seconds: Mapping[int, float],
    ) -> None:
        """Start the batcher; callers use :meth:`load`. ``seconds`` are of a batch by size."""
        self.name, self.version, self._path = name, version, path
        self.session, self.references, self._watch = session, references, watch
        self._settings, self._seconds = settings, seconds
        self.batcher = self.make_batcher(metrics)
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @classmethod
    def load(
        cls,
        name: str,
        version: str,
        path: Path,
        settings: ServeSettings,
        metrics: Metrics,
        watches: Watches,
    ) -> "LoadedModel":
        """Load the file and run it once at each end of the batch sizes.

        Raises:
            ModelFileError: it is no model.
            SettingsError: the execution provider, the references or ``watch_state`` cannot be used.
        """
        session = InspectionSession.load(
            path,
            execution_provider=settings.execution_provider,
            threads=settings.threads,
            # A choice of `twonines tune` and its file are not what two persons have approved.
            other_files=not settings.two_person,
            beside=True,
        )
        card = session.card
        # A folder of models may hold some that compare and some that do not.
        compares = card.reference or settings.model is not None
        references = open_references(settings, card) if compares else None
        seconds = warm(session, (1, _batch_size(session, settings)))
        watch = open_watch(settings, session, path)
        if watch and card.certificate:
            watch = watches.setdefault((name, version, card.certificate.digest), watch)
        log.info("model %s %s on %s", name, version, session.choice)
        return cls(name, version, path, session, references, watch, settings, metrics, seconds)

    def make_batcher(self, metrics: Metrics) -> Batcher:
        """A batcher of its session within the limits of the service."""
        settings = self._settings
        return Batcher(
            self.session,
            max_batch_size=_batch_size(self.session, settings),
            max_wait_ms=settings.max_wait_ms,
            queue_size=settings.queue_size,
            max_predicted_s=settings.max_predicted_s,
            decode_workers=settings.decode_workers,
            max_pixels=settings.max_pixels,
            max_decode_pixels=settings.max_decode_pixels,
            max_tiles=settings.max_tiles,
            session_timeout_s=settings.session_timeout_s,
            streams=self.session.streams,
            seconds=self._seconds,
            reload=self._reload,
            metrics=metrics,
            watch=self._watch,
        )

    def make_inspector(self) -> Inspector:
        """An inspector of its session as it is now, under its certificate."""
        watch = self._watch
        return Inspector(
            self.session,
            max_tiles=self._settings.max_tiles,
            withdrawn=lambda: watch.fault if watch else None,
        )

    def _reload(self) -> InspectionSession:
        settings = self._settings
        fresh = reload_same(
            self.session, self._path, settings.threads, other_files=not settings.two_person
        )
        # What was found when the version was loaded, in watch_state too, holds on.
        fresh.certificate_fault = fresh.certificate_fault or self.session.certificate_fault
        self.session = fresh
        return fresh

    def is_of(self, path: Path) -> bool:
        """Whether ``path`` still holds the file that was loaded; blocks."""
        return hashlib.sha256(read_model(path)).hexdigest() == self.session.digest

    @property
    def short(self) -> dict[str, Any]:
        """What answers, in short."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.session.digest,
            "execution_provider": self.session.execution_provider,
        }

    @property
    def values(self) -> ModelValues:
        """What the metrics ask for."""
        batcher, watch = self.batcher, self._watch
        return ModelValues(
            lambda: batcher.waiting,
            lambda: batcher.cost.fixed,
            lambda: batcher.cost.each,
            lambda: self.session.rechecked,
            lambda: watch is not None and not watch.fault,
            lambda: watch.evidence if watch else 0.0,
        )

    def certificate(self) -> dict[str, Any] | None:
        """The model's certificate, whether it holds now and the evidence of drift."""
        certificate, watch = self.session.card.certificate, self._watch
        if certificate is None:
            return None
        fault = self.session.certificate_fault or (watch.fault if watch else None)
        return {
            "digest": certificate.digest,
            "statement": certificate.statement,
            "valid": fault is None,
            "fault": fault,
            "drift_evidence": watch.evidence if watch else None,
            "withdrawn_from": THRESHOLD,
            "pictures_watched": watch.pictures if watch else 0,
        }

    @contextmanager
    def lease(self) -> Iterator["LoadedModel"]:
        """Use it; it stays until the block ends."""
        self._users += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self) -> None:
        """Wait until nobody uses it, then close it and give its memory back."""
        await self._unused.wait()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Answer what was taken, then let go of the session."""
        self.batcher.close()
        # Whoever still holds this object must not hold the weights.
        del self.batcher, self.session
        give_memory_back()
        log.info("model %s %s is unloaded", self.name, self.version)


def _batch_size(session: InspectionSession, settings: ServeSettings) -> int:
    """As it was tuned, where nobody has given another."""
    given = "max_batch_size" in settings.model_fields_set
    tuned = None if given else session.tuned
    return tuned.max_batch_size if tuned else settings.max_batch_size


_trimming = threading.Lock()


def give_memory_back() -> None:
    """Free what a session held; glibc keeps freed pages of its arenas unless it is told."""
    with _trimming:
        gc.collect()
        if sys.platform == "linux":
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
            if trim is not None:
                trim(0)
