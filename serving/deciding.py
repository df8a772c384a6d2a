"""The stage that turns outputs into verdicts, and answers, while the session runs on."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from twonines.errors import TwoninesError
from twonines.models.inspector import FAULT, Inspector
from twonines.models.outputs import Outputs
from twonines.serving.metrics import Metrics
from twonines.serving.statistics import Statistics
from twonines.serving.watch import Watch
from twonines.serving.work import Answer, Item, Part
from twonines.types import Inspection

log = logging.getLogger(__name__)
_BATCHES = 2
"""Outputs that may wait here: one is enough to keep both stages busy, more only take memory."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch with its outputs, and when the session began and ended with it."""

    parts: Sequence[Part]
    outputs: Outputs
    start: float
    end: float


class DecisionStage:
    """One thread, so that the tiles of a picture are merged by one.

    Where deciding fails on a batch its parts go back to run alone, and only the culprit fails.
    """

    def __init__(
        self,
        inspector: Inspector,
        retry: Callable[[Iterable[Part]], None],
        answered: Callable[[Item], None],
        metrics: Metrics,
        statistics: Statistics,
        watch: Watch | None = None,
    ) -> None:
        """Start the thread; ``retry`` takes parts to be run alone, ``answered`` each good item."""
        self._inspector, self._retry, self._answered = inspector, retry, answered
        self._metrics, self._statistics, self._watch = metrics, statistics, watch
        self._queue: queue.Queue[Ran | None] = queue.Queue(_BATCHES)
        self._thread = threading.Thread(target=self._loop, name="decision", daemon=True)
        self._thread.start()

    def put(self, ran: Ran) -> None:
        """Take a batch; waits while as many as may wait do."""
        self._queue.put(ran)

    def close(self) -> None:
        """Decide what was taken, then stop."""
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (ran := self._queue.get()) is not None:
            self._decide(ran)

    def _decide(self, ran: Ran) -> None:
        begin = time.perf_counter()
        try:
            inspections = self._finish(ran)
            kept = [_keep(ran, row) if found else {} for row, found in enumerate(inspections)]
        except Exception as exc:
            if len(ran.parts) > 1:
                self._retry(part for part in ran.parts if not part.item.future.done())
            else:
                item = ran.parts[0].item
                log.error(FAULT, exc_info=exc, extra=item.ids)
                item.fail(TwoninesError(FAULT))
            return
        end = time.perf_counter()
        self._metrics.decision.observe(end - begin)
        self._statistics.note_batch(len(ran.parts), ran.end - ran.start, end - begin)
        for part in ran.parts:
            part.item.compute_s += (ran.end - ran.start) / len(ran.parts)
        for item in {id(part.item): part.item for part in ran.parts}.values():
            self._note_times(item, ran, begin, end)
        for part, inspection, outputs in zip(ran.parts, inspections, kept, strict=True):
            if inspection is not None:
                self._answer(part.item, inspection, outputs)

    def _finish(self, ran: Ran) -> list[Inspection | None]:
        """Verdicts of a batch; the one in which the watch withdraws gets none under it."""
        parts = [part.input for part in ran.parts]
        watch, fault = self._watch, self._inspector.fault
        inspections = self._inspector.finish(ran.outputs, parts)
        if watch is None or fault:
            return inspections
        for inspection in inspections:
            if inspection is not None:
                watch.observe(inspection)
        return self._inspector.conclude(ran.outputs, parts) if watch.fault else inspections

    def _note_times(self, item: Item, ran: Ran, begin: float, end: float) -> None:
        times = item.timings_ms
        if "queue" not in times:
            times["queue"] = (ran.start - item.ready) * 1e3
            self._metrics.queue.observe(ran.start - item.ready)
        times["compute"] = times.get("compute", 0.0) + (ran.end - ran.start) * 1e3
        times["decision"] = times.get("decision", 0.0) + (end - begin) * 1e3
        times["total"] = (end - item.arrived) * 1e3
        item.batch_size = max(item.batch_size, len(ran.parts))

    def _answer(
        self, item: Item, inspection: Inspection, outputs: dict[str, npt.NDArray[Any]]
    ) -> None:
        self._metrics.verdicts.labels(inspection.verdict.value).inc()
        with suppress(InvalidStateError):
            answer = Answer(inspection, item.batch_size, item.timings_ms, item.compute_s, outputs)
            item.future.set_result(answer)
        self._answered(item)


def _keep(ran: Ran, row: int) -> dict[str, npt.NDArray[Any]]:
    """The outputs that the picture's client wants, copied so that the batch's can go."""
    part = ran.parts[row]
    if not part.item.wanted:
        return {}
    merger = part.picture.merger
    outputs, place = (ran.outputs, row) if merger is None else (merger.result(), 0)
    return {name: getattr(outputs, name)[place].copy() for name in part.item.wanted}
