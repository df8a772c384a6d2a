"""Takes pictures of all clients and joins the stages that inspect them.

::

    bytes -> DecodeStage -> BatchQueue -> SessionStage -> DecisionStage -> Answer
             decode, resize  batches       runs, culprits  verdicts

Every queue between is bounded: by the ``queue_size`` pictures that are in flight at most.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from twonines.errors import DeadlineError, NotReadyError
from twonines.models.image import MAX_PIXELS
from twonines.models.inspector import Inspector, Prepared, Session
from twonines.models.providers import available_threads
from twonines.models.tiling import MAX_TILES
from twonines.serving.admission import Admission, Load
from twonines.serving.batches import BatchQueue
from twonines.serving.cost import CostModel
from twonines.serving.deciding import DecisionStage
from twonines.serving.decoding import DecodeStage
from twonines.serving.metrics import Metrics
from twonines.serving.renewal import SharedSession
from twonines.serving.running import SessionStage
from twonines.serving.statistics import Statistics
from twonines.serving.watch import Watch
from twonines.serving.work import Answer as Answer
from twonines.serving.work import Item


class Batcher:
    """At most ``queue_size`` pictures are in flight, and none that would wait too long.

    More are refused with the time after which there will be room. A batch that fails is run again
    picture by picture, so that only the culprit fails; a session that is broken is replaced.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_batch_size: int = 8,
        max_wait_ms: float = 5.0,
        queue_size: int = 256,
        max_predicted_s: float = 10.0,
        decode_workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_decode_pixels: int = 2 * MAX_PIXELS,
        max_tiles: int = MAX_TILES,
        session_timeout_s: float = 30.0,
        streams: int = 1,
        seconds: Mapping[int, float] | None = None,
        reload: Callable[[], Session] | None = None,
        metrics: Metrics | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Start the stages.

        Args:
            session: inspects.
            max_batch_size: inputs in a batch.
            max_wait_ms: longest wait for a fuller batch, where the measured cost says it pays.
            queue_size: pictures in flight.
            max_predicted_s: longest predicted time until an answer.
            decode_workers: threads that decode; as many as there are cores where None.
            max_pixels: pixels of one picture.
            max_decode_pixels: pixels of large pictures in memory at once.
            max_tiles: tiles of one picture.
            session_timeout_s: a run of the session that takes longer hangs.
            streams: runs of the session at once, where more than one picture waits.
            seconds: what a batch of so many inputs takes, measured beforehand.
            reload: gives a fresh session of the same model, in place of one that is broken.
            metrics: counts.
            watch: withdraws the certificate where pictures drift.
        """
        workers = decode_workers or available_threads()
        inspector = Inspector(
            session, max_tiles=max_tiles, withdrawn=lambda: watch.fault if watch else None
        )
        self.cost = cost = CostModel()
        for inputs, took in (seconds or {}).items():
            cost.note(inputs, took)
        self._metrics, self.statistics = metrics or Metrics(), Statistics()
        self._in_flight, self._closed = 0, False
        self._changed = threading.Condition()
        self._admission = Admission(
            cost,
            queue_size=queue_size,
            max_batch_size=max_batch_size,
            decode_workers=workers,
            max_predicted_s=max_predicted_s,
        )
        self._ready = 0
        self._queue = BatchQueue(cost, max_batch_size, max_wait_ms / 1000, streams)
        self._deciding = DecisionStage(
            inspector,
            self._queue.put_alone,
            self._note_answer,
            self._metrics,
            self.statistics,
            watch,
        )
        self._session = SharedSession(session, reload, self._metrics)
        self._running = [
            SessionStage(
                self._session,
                self._queue,
                self._deciding.put,
                cost=cost,
                timeout_s=session_timeout_s,
                metrics=self._metrics,
            )
            for _ in range(streams)
        ]
        self._decoding = DecodeStage(
            inspector,
            self._hand_on,
            workers=workers,
            max_pixels=max_pixels,
            max_decode_pixels=max_decode_pixels,
            metrics=self._metrics,
        )

    @property
    def in_flight(self) -> int:
        """Pictures taken and not answered."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Pictures that are decoded and wait for the session."""
        return len(self._queue)

    @property
    def is_ready(self) -> bool:
        """Whether pictures are taken now; not while the session is being replaced."""
        return self._session.ready and not self._closed

    @property
    def is_broken(self) -> bool:
        """Whether the session is beyond repair, so that only a restart helps."""
        return self._session.broken

    def submit(self, data: bytes, reference: bytes | None = None) -> "Future[Answer]":
        """Take one encoded picture; the future gives its answer or its error.

        Raises:
            OverloadedError: ``queue_size`` pictures are in flight.
            NotReadyError: the batcher is closed.
        """
        return self.submit_all([data], reference)[0]

    def submit_all(
        self,
        pictures: Sequence[bytes],
        reference: bytes | list[bytes] | None = None,
        deadline: float | None = None,
        wanted: Sequence[str] = (),
    ) -> "list[Future[Answer]]":
        """Take all encoded pictures or none; one future for each, in order.

        Args:
            pictures: encoded pictures.
            reference: the encoded reference of all of them, or a list with that of each, where the
                model compares with one.
            deadline: ``time.perf_counter`` from which on nobody waits for them; what has not begun
                by then is not begun and ends with ``DeadlineError``.
            wanted: names of the model's outputs that go with the answers.

        Raises:
            OverloadedError: with these, more than ``queue_size`` would be in flight, or they would
                wait too long.
            NotReadyError: the batcher is closed, or its session is being replaced.
            DeadlineError: the deadline has passed.
        """
        references = reference if isinstance(reference, list) else [reference] * len(pictures)
        # Held to the end: a close in between would leave pictures that nobody answers.
        with self._changed:
            now = time.perf_counter()
            load = self.admit(len(pictures), deadline)
            items = [
                Item(data, golden, Future(), now, deadline, len(pictures), load, wanted=wanted)
                for data, golden in zip(pictures, references, strict=True)
            ]
            self._in_flight += len(items)
            self._metrics.pending.inc(len(items))  # of all batchers of the service
            for item in items:
                item.future.add_done_callback(partial(self._leave, item))
                self._decoding.put(item)
        return [item.future for item in items]

    def admit(self, count: int = 1, deadline: float | None = None) -> Load:
        """Refuse what :meth:`submit_all` would refuse now; gives what is on its way.

        Cheap, so that a request can be refused before its body is read.

        Raises:
            OverloadedError: as :meth:`submit_all`.
            NotReadyError: as :meth:`submit_all`.
            DeadlineError: the deadline has passed.
        """
        if self._closed:
            raise NotReadyError("the service is shutting down")
        if not self._session.ready:
            raise NotReadyError("the session is being replaced")
        left = None if deadline is None else deadline - time.perf_counter()
        if left is not None and left <= 0:
            raise DeadlineError("the deadline had passed before the picture was taken")
        inputs = self._queue.inputs + sum(stage.inputs for stage in self._running)
        load = Load(self._in_flight, self._in_flight - self._ready, inputs)
        self._admission.check(count, load, left)
        return load

    def close(self) -> None:
        """Answer everything that was taken, then stop the threads."""
        with self._changed:
            self._closed = True
            self._session.hurry()
            self._changed.wait_for(lambda: not self._in_flight)
        self._queue.close()
        for stage in self._running:
            stage.close()
        self._deciding.close()
        self._decoding.close()

    def _hand_on(self, item: Item, picture: Prepared, seconds: float) -> None:
        self._admission.note_decode(seconds, len(picture))
        with self._changed:
            if item.future.done():  # cancelled meanwhile; its end has been counted
                return
            item.picture, item.is_counted = picture, True
            self._ready += 1
        self._queue.put(item)

    def _note_answer(self, item: Item) -> None:
        took = time.perf_counter() - item.arrived
        self._admission.note_answer(item.came_with, item.load, took)

    def _leave(self, item: Item, future: "Future[Answer]") -> None:
        self.statistics.note_end(item, future)
        with self._changed:
            self._in_flight -= 1
            self._ready -= item.is_counted
            item.drop()
            self._metrics.pending.dec()
            if not self._in_flight:
                self._changed.notify_all()
