"""Group commit: what many requests bring is written in one transaction, off their way."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from twonines.errors import StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")
_MAX_ITEMS = 256


class Writer(Generic[T]):
    """One thread; an item is answered when the transaction that holds it is on disk.

    While one batch is being written the next one gathers, so nobody waits for a timer. After a
    failure new items fail at once, but for one try each ``retry_s``, so that a store that hangs
    does not hold every request; the first try that succeeds ends that. Where no item comes, it is
    tried without one: a service that is not ready is sent nothing.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], None],
        *,
        name: str,
        probe: Callable[[], None],
        fault: str | None = None,
        retry_s: float = 1.0,
    ) -> None:
        """Start the thread.

        Args:
            write: writes all or nothing, and returns when it is on disk. ``ValueError`` says that
                an item is at fault; the items are then written one by one.
            name: of the thread.
            probe: tries whether writing works; changes nothing, and raises as ``write`` does.
            fault: why writing is known to fail already.
            retry_s: least time between two tries while writing fails.
        """
        self._write, self._probe, self._retry_s = write, probe, retry_s
        self._queue: queue.SimpleQueue[tuple[T, Future[None]] | None] = queue.SimpleQueue()
        self._fault = fault
        self._retry_at = 0.0
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Why the last try failed; None where it did not."""
        return self._fault

    def put(self, item: T) -> "Future[None]":
        """Take an item; the future ends with :class:`StoreError` where it is not on disk.

        A future that is cancelled in time is not written.
        """
        future: Future[None] = Future()
        with self._lock:
            fault = "it is closed" if self._closed else self._fault
            if fault is None or (not self._closed and self._may_try()):
                self._queue.put((item, future))
                return future
        future.set_exception(StoreError(fault))
        return future

    def _may_try(self) -> bool:
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + self._retry_s
        return True

    def close(self) -> None:
        """Write what was taken, then stop."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (batch := self._take()) is not None:
            wanted = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            if wanted:
                self._try(wanted)
            elif self._fault is not None:
                self._try_without()

    def _take(self) -> list[tuple[T, "Future[None]"]] | None:
        """What waits; nothing where it is time to try without."""
        try:
            first = self._queue.get(timeout=None if self._fault is None else self._retry_s)
        except queue.Empty:
            return []
        if first is None:
            return None
        batch = [first]
        while len(batch) < _MAX_ITEMS and not self._queue.empty():
            item = self._queue.get()
            if item is None:
                self._queue.put(None)  # the last one: nothing is put after it
                break
            batch.append(item)
        return batch

    def _try(self, batch: Sequence[tuple[T, "Future[None]"]]) -> None:
        try:
            self._write([item for item, _ in batch])
        except ValueError as exc:
            if len(batch) > 1:
                for pair in batch:
                    self._try([pair])
            else:
                log.error("an item cannot be stored", exc_info=exc)
                batch[0][1].set_exception(StoreError("it cannot be stored; the log says why"))
        except Exception as exc:
            self._fail(batch, exc)
        else:
            self._recover()
            for _, future in batch:
                future.set_result(None)

    def _try_without(self) -> None:
        try:
            self._probe()
        except Exception as exc:
            self._fault = _told(exc)
        else:
            self._recover()

    def _recover(self) -> None:
        if self._fault is not None:
            log.warning("the store works again")
            self._fault = None

    def _fail(self, batch: Sequence[tuple[T, "Future[None]"]], exc: Exception) -> None:
        fault = _told(exc)
        if self._fault is None:
            log.error("the store has failed: %s", fault, exc_info=exc)
        self._retry_at = time.monotonic() + self._retry_s
        self._fault = fault
        for _, future in batch:
            future.set_exception(StoreError(fault))


def _told(exc: Exception) -> str:
    return str(exc) if isinstance(exc, StoreError) else type(exc).__name__
