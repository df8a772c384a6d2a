"""Batches pictures of all clients: decode in threads, one session, answers in order."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from twonines.errors import NotReadyError, OverloadedError, TwoninesError
from twonines.models.card import ModelCard
from twonines.models.decision import decide
from twonines.models.image import MAX_PIXELS, count_pixels, decode, resize
from twonines.models.session import Outputs, available_threads
from twonines.serving.metrics import Metrics
from twonines.serving.room import DecodeRoom
from twonines.types import Image, Inspection

log = logging.getLogger(__name__)


class Session(Protocol):
    """What the batcher needs of a session."""

    card: ModelCard

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input."""

    def run(self, images: Image) -> Outputs:
        """Inspect (N, height, width, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An inspection, the batch it was in, and what each stage took in milliseconds."""

    inspection: Inspection
    batch_size: int
    timings_ms: dict[str, float]


@dataclass(slots=True)
class _Item:
    data: bytes
    future: "Future[Answer]"
    arrived: float
    image: Image = field(default_factory=lambda: np.empty((0, 0, 3), np.uint8))
    size: tuple[int, int] = (0, 0)
    timings_ms: dict[str, float] = field(default_factory=dict)
    ready: float = 0.0


class Batcher:
    """Continuous batching: the session takes whatever waits the moment it is free.

    At most ``queue_size`` pictures are in flight; more are refused with the time after which
    there will be room. A batch that fails is run again picture by picture, so that only the
    culprit fails. Large pictures are decoded within ``max_decode_pixels`` together.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_batch_size: int = 32,
        max_wait_ms: float = 0.0,
        queue_size: int = 256,
        decode_workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_decode_pixels: int = 2 * MAX_PIXELS,
        metrics: Metrics | None = None,
    ) -> None:
        """Start the threads."""
        self._session = session
        self._max_batch_size, self._max_wait_s = max_batch_size, max_wait_ms / 1000
        self._queue_size, self._max_pixels = queue_size, max_pixels
        self._room: DecodeRoom[_Item] = DecodeRoom(max_decode_pixels)
        self._metrics = metrics or Metrics()
        self._in_flight = 0
        self._compute_seconds = self._decode_seconds = 0.0
        self._workers = decode_workers or available_threads()
        self._closed = False
        self._changed = threading.Condition()
        self._waiting: deque[_Item] = deque()
        self._pool = ThreadPoolExecutor(self._workers, "decode")
        self._thread = threading.Thread(target=self._infer, name="session", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Pictures taken and not answered."""
        return self._in_flight

    def submit(self, data: bytes) -> "Future[Answer]":
        """Take one encoded picture; the future gives its answer or its error.

        Raises:
            OverloadedError: ``queue_size`` pictures are in flight.
            NotReadyError: the batcher is closed.
        """
        return self.submit_all([data])[0]

    def submit_all(self, pictures: Sequence[bytes]) -> "list[Future[Answer]]":
        """Take all encoded pictures or none; one future for each, in order.

        Raises:
            OverloadedError: with these, more than ``queue_size`` would be in flight.
            NotReadyError: the batcher is closed.
        """
        now = time.perf_counter()
        items = [_Item(data, Future(), now) for data in pictures]
        # Held to the end: a close in between would leave pictures that nobody answers.
        with self._changed:
            if self._closed:
                raise NotReadyError("the service is shutting down")
            excess = self._in_flight + len(items) - self._queue_size
            if excess > 0:
                raise OverloadedError(
                    f"queue: holds at most {self._queue_size} pictures and has no room for "
                    f"{len(items)} more, {self._in_flight} are in flight",
                    self._seconds_until_free(excess),
                )
            self._in_flight += len(items)
            self._metrics.pending.set(self._in_flight)
            for item in items:
                item.future.add_done_callback(self._leave)
                self._pool.submit(self._prepare, item)
        return [item.future for item in items]

    def _seconds_until_free(self, count: int) -> float:
        """Time in which ``count`` pictures leave: the slower stage sets the pace."""
        pace = max(self._compute_seconds, self._decode_seconds / self._workers)
        batches = -(-count // self._max_batch_size)
        full = self._max_batch_size * self._compute_seconds
        return max(0.05, count * pace, batches * full if self._compute_seconds else 0.0)

    def close(self) -> None:
        """Answer everything that was taken, then stop the threads."""
        with self._changed:
            self._closed = True
        self._pool.shutdown(wait=True)
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def _leave(self, _: "Future[Answer]") -> None:
        with self._changed:
            self._in_flight -= 1
            self._metrics.pending.set(self._in_flight)
            if self._closed:
                self._changed.notify_all()

    def _prepare(self, item: _Item) -> None:
        """Decode the picture, or leave it to whoever ends a large one; then do the same."""
        pixels = count_pixels(item.data)
        # What is too large anyway is refused by its header and needs no room.
        turn = self._room.enter(item, pixels if pixels <= self._max_pixels else 0)
        while turn:
            item, pixels = turn
            try:
                self._decode(item)
            finally:
                turn = self._room.leave(pixels)

    def _decode(self, item: _Item) -> None:
        """Decode and resize one picture, then hand it to the session's thread."""
        if item.future.cancelled():
            return
        start = time.perf_counter()
        try:
            image = decode(item.data, max_pixels=self._max_pixels)
            item.size = (image.shape[0], image.shape[1])
            item.image = resize(image, self._session.input_size)
        except BaseException as exc:
            _fail(item, exc)
            return
        item.data = b""
        item.ready = time.perf_counter()
        item.timings_ms = {"decode": (item.ready - start) * 1e3}
        self._metrics.decode.observe(item.ready - start)
        with self._changed:
            self._decode_seconds = _average(self._decode_seconds, item.ready - start)
            self._waiting.append(item)
            self._changed.notify()

    def _infer(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._run(batch)

    def _next_batch(self) -> list[_Item] | None:
        """Wait for pictures; None means that the batcher is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or (self._closed and not self._in_flight))
            if not self._waiting:
                return None
            if self._max_wait_s and not self._closed:
                self._changed.wait_for(
                    lambda: len(self._waiting) >= self._max_batch_size or self._closed,
                    self._max_wait_s,
                )
            batch: list[_Item] = []
            while self._waiting and len(batch) < self._max_batch_size:
                item = self._waiting.popleft()
                if item.future.set_running_or_notify_cancel():
                    batch.append(item)
            return batch

    def _run(self, batch: Sequence[_Item]) -> None:
        start = time.perf_counter()
        try:
            outputs = self._session.run(np.stack([item.image for item in batch]))
            ran = time.perf_counter()
            inspections = decide(outputs, self._session.card, [item.size for item in batch])
        except Exception as exc:
            self._run_alone(batch, exc)
            return
        end = time.perf_counter()
        self._observe(len(batch), ran - start, end - ran)
        for item, inspection in zip(batch, inspections, strict=True):
            item.timings_ms |= {
                "queue": (start - item.ready) * 1e3,
                "compute": (ran - start) * 1e3,
                "decision": (end - ran) * 1e3,
                "total": (end - item.arrived) * 1e3,
            }
            self._metrics.queue.observe(start - item.ready)
            self._metrics.verdicts.labels(inspection.verdict.value).inc()
            with suppress(InvalidStateError):
                item.future.set_result(Answer(inspection, len(batch), item.timings_ms))

    def _run_alone(self, batch: Sequence[_Item], exc: Exception) -> None:
        """One picture fails with a fixed text; more are tried one at a time."""
        if len(batch) > 1:
            for item in batch:
                self._run([item])
            return
        log.error("the session failed on one picture", exc_info=exc)
        _fail(batch[0], TwoninesError("the picture could not be inspected"))

    def _observe(self, count: int, compute: float, decision: float) -> None:
        metrics = self._metrics
        metrics.batch_size.observe(count)
        metrics.compute.observe(compute)
        metrics.decision.observe(decision)
        metrics.executions.inc()
        metrics.inferences.inc(count)
        self._compute_seconds = _average(self._compute_seconds, compute / count)


def _average(old: float, new: float) -> float:
    """A slow average, so that Retry-After tells the truth under load; starts at the first."""
    return old + 0.1 * (new - old) if old else new


def _fail(item: _Item, exc: BaseException) -> None:
    with suppress(InvalidStateError, CancelledError):
        item.future.set_exception(exc)
