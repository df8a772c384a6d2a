"""The stage that runs the session, finds culprits, and replaces a session that is broken."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

import numpy as np

from twonines.errors import NotReadyError, TwoninesError
from twonines.models.inspector import FAULT, Inspector
from twonines.models.outputs import Outputs
from twonines.serving.batches import Batch, BatchQueue
from twonines.serving.cost import CostModel
from twonines.serving.deciding import Ran
from twonines.serving.metrics import Metrics
from twonines.serving.renewal import SharedSession
from twonines.serving.work import Part

log = logging.getLogger(__name__)
_SLACK = 20.0
"""A run is taken for hung only after so many times what the cost model predicts."""


class Caller:
    """A thread that makes calls for another one, which may stop waiting for them."""

    def __init__(self) -> None:
        """Start the thread; a daemon, for nothing ends one that hangs."""
        self._calls: SimpleQueue[tuple[Future[Outputs], Callable[[], Outputs]] | None]
        self._calls = SimpleQueue()
        threading.Thread(target=self._loop, name="session", daemon=True).start()

    def call(self, function: Callable[[], Outputs], timeout_s: float) -> Outputs:
        """What ``function`` gives or raises.

        Raises:
            TimeoutError: it has done neither within ``timeout_s``; leave this caller behind.
        """
        future: Future[Outputs] = Future()
        self._calls.put((future, function))
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():  # raised by the function itself
                raise RuntimeError("the session raised TimeoutError") from None
            raise

    def close(self) -> None:
        """End the thread after what it does now."""
        self._calls.put(None)

    def _loop(self) -> None:
        while (job := self._calls.get()) is not None:
            future, function = job
            try:
                future.set_result(function())
            except BaseException as exc:
                future.set_exception(exc)
            del job, future, function  # a picture must not stay until the next


class SessionStage:
    """Takes batches, runs them, and hands their outputs on; several may share a session.

    A batch that fails is run again part by part. A part that fails alone is the culprit if the
    session still inspects a plain picture; if not, the session is at fault: it is replaced by a
    fresh one, and the part has one more try. A run that hangs is left behind, the session
    replaced, and its parts run alone. Where the session is broken for good, all is refused.
    """

    def __init__(
        self,
        session: SharedSession,
        queue: BatchQueue,
        hand_on: Callable[[Ran], None],
        *,
        cost: CostModel,
        timeout_s: float,
        metrics: Metrics,
    ) -> None:
        """Start the thread."""
        self._session, self._queue, self._hand_on = session, queue, hand_on
        self._cost, self._timeout_s, self._metrics = cost, timeout_s, metrics
        self.inputs = 0
        self._caller = Caller()
        self._thread = threading.Thread(target=self._loop, name="batches", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the queue was closed."""
        self._thread.join()
        self._caller.close()

    def _loop(self) -> None:
        while (batch := self._queue.take()) is not None:
            self.inputs = len(batch.parts)
            try:
                ran = self._run(batch) if batch.parts else None
            except BaseException as exc:  # the thread must live, and every item be answered
                ran = None
                log.error("the session stage failed", exc_info=exc)
                for part in batch.parts:
                    part.item.fail(TwoninesError(FAULT))
            self.inputs = 0
            self._queue.done(batch)
            if ran is not None:
                self._hand_on(ran)
            del batch, ran

    def _run(self, batch: Batch) -> Ran | None:
        """What a batch gave; None where its parts run again or have their answers."""
        parts, inspector = batch.parts, self._session.inspector
        if self._session.broken:
            self._refuse(parts)
            return None
        start = time.perf_counter()
        try:
            outputs = self._call(batch, inspector)
        except TimeoutError:
            self._leave_hung(parts, inspector)
            return None
        except Exception as exc:
            self._find_culprit(batch, inspector, exc)
            return None
        self._session.note_end()
        end = time.perf_counter()
        self._observe(batch, end - start)
        return Ran(parts, outputs, start, end)

    def _call(self, batch: Batch, inspector: Inspector) -> Outputs:
        parts = [part.input for part in batch.parts]
        outputs = self._caller.call(
            lambda: inspector.run(parts, beside=batch.beside), self._limit_s(len(parts))
        )
        outputs.check(len(parts), len(inspector.card.classes))
        return outputs

    def _limit_s(self, inputs: int) -> float:
        return max(self._timeout_s, _SLACK * self._cost.seconds(inputs, inputs))

    def _find_culprit(self, batch: Batch, inspector: Inspector, exc: Exception) -> None:
        parts = batch.parts
        if len(parts) > 1 or inspector is not self._session.inspector:  # replaced meanwhile
            self._queue.put_alone(parts)
            return
        item = parts[0].item
        log.error(FAULT, exc_info=exc, extra=item.ids)
        if item.renewed or not self._session.can_renew or self._is_sound(inspector, batch.beside):
            item.fail(TwoninesError(FAULT))
            return
        item.renewed = True
        self._session.renew_failed(inspector)
        self._queue.put_alone(parts)

    def _is_sound(self, inspector: Inspector, beside: bool) -> bool:
        """Whether the session still inspects a plain picture."""
        plain = np.zeros((1, *inspector.session.input_size, 3), np.uint8)
        golden = plain if inspector.card.reference else None

        def probe() -> Outputs:
            return inspector.session.run(plain, golden, beside=beside)

        try:
            self._caller.call(probe, self._limit_s(1)).check(1, len(inspector.card.classes))
        except Exception as exc:
            log.error("the session fails on a plain picture too", exc_info=exc)
            self._leave_caller()  # it may hang
            return False
        return True

    def _leave_hung(self, batch: list[Part], inspector: Inspector) -> None:
        log.error("the session did not end a batch of %d in time", len(batch))
        self._leave_caller()
        renewal = self._session.renew_hung(inspector)
        item = batch[0].item
        if renewal == "broken":
            self._refuse(batch)
        elif len(batch) > 1:
            self._queue.put_alone(batch)
        elif renewal == "replaced before" and not item.renewed:  # another picture may have done it
            item.renewed = True
            self._queue.put_alone(batch)
        else:
            item.fail(TwoninesError(FAULT))

    def _leave_caller(self) -> None:
        self._caller.close()
        self._caller = Caller()

    def _refuse(self, batch: list[Part]) -> None:
        for part in batch:
            part.item.fail(NotReadyError("the session is broken; the service must be restarted"))

    def _observe(self, batch: Batch, seconds: float) -> None:
        metrics, count = self._metrics, len(batch.parts)
        # Beside others a run takes that much longer, and the machine does that much more.
        self._cost.note(count, seconds / self._queue.lanes if batch.beside else seconds)
        metrics.batch_size.observe(count)
        metrics.compute.observe(seconds)
        metrics.executions.inc()
        metrics.inferences.inc(count)
