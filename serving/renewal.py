"""The session that all runs share, replaced once for all of them where it is broken."""

import itertools
import logging
import threading
from collections.abc import Callable
from typing import Literal

from twonines.models.inspector import Inspector, Session
from twonines.serving.metrics import Metrics

log = logging.getLogger(__name__)
MAX_HANGS = 3
"""A hung run cannot be ended, only left behind with its memory; so often in a row, no more."""
Renewal = Literal["replaced", "replaced before", "broken"]
_BACKOFF_S = (0.1, 1.0, 5.0, 15.0, 30.0)


class SharedSession:
    """Holds the inspector that runs now; ``ready`` is false while it is being replaced.

    Whoever finds it broken names the one that it ran: where another run has had it replaced
    meanwhile, nothing is loaded twice. After ``MAX_HANGS`` in a row, or where nothing can be
    reloaded, it is ``broken`` for good.
    """

    def __init__(
        self, session: Session, reload: Callable[[], Session] | None, metrics: Metrics
    ) -> None:
        """Start with ``session``; ``reload`` gives a fresh one of the same model."""
        self.inspector = Inspector(session)
        self.ready, self.broken = True, False
        self._reload, self._metrics = reload, metrics
        self._hangs = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def can_renew(self) -> bool:
        """Whether there is a way to a fresh session."""
        return self._reload is not None and not self.broken

    def hurry(self) -> None:
        """Stop trying to reload: the service ends."""
        self._closing.set()

    def note_end(self) -> None:
        """A run has ended, so hangs before it are not in a row with those to come."""
        self._hangs = 0

    def renew_hung(self, seen: Inspector) -> Renewal:
        """Replace what hung, but not too often."""
        with self._lock:
            if self.broken or self.inspector is not seen:
                return "broken" if self.broken else "replaced before"
            self._hangs += 1
            if self._reload is None or self._hangs >= MAX_HANGS:
                self._break()
                return "broken"
            return "replaced" if self._replace(self._reload, "hung") else "broken"

    def renew_failed(self, seen: Inspector) -> None:
        """Replace what failed on a plain picture."""
        with self._lock:
            if not self.broken and self.inspector is seen and self._reload is not None:
                self._replace(self._reload, "failed")

    def _replace(self, reload: Callable[[], Session], reason: str) -> bool:
        """Load the session afresh; tries until it is there or the service ends."""
        self.ready = False
        self._metrics.replaced.labels(reason).inc()
        for attempt in itertools.count():
            try:
                self.inspector = Inspector(reload())
            except Exception as exc:
                log.error("the model cannot be loaded again", exc_info=exc)
            else:
                log.warning("the session has been replaced, since it %s", reason)
                self.ready = True
                return True
            if self._closing.wait(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]):
                break
        self._break()
        return False

    def _break(self) -> None:
        self.ready, self.broken = False, True
        log.critical("the session is broken and cannot be replaced")
