"""The queue before the session: pictures that are ready, made into batches."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from twonines.serving.cost import CostModel, average
from twonines.serving.work import Item, Part

_ALONE_S = 1.0
"""A picture that has had the machine to itself for so long shares it: its run may hang."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs for one run; ``beside`` says that other runs may go on meanwhile."""

    parts: list[Part]
    beside: bool = False


class BatchQueue:
    """Continuous batching: the session takes whatever waits the moment it is free.

    It waits for more only up to ``max_wait_s``, and only while the cost model says that it pays. A
    picture in tiles puts one tile at a time into a batch and then waits its turn again, so that
    small pictures do not wait behind it. Bounded by whoever admits items.

    Several ``lanes`` take batches side by side. What waits is shared among those that are free; one
    input that comes while nothing runs gets the whole machine, and the lanes wait for its end, but
    no longer than a second.
    """

    def __init__(
        self, cost: CostModel, max_batch_size: int, max_wait_s: float, lanes: int = 1
    ) -> None:
        """Start empty."""
        self._cost, self._max_batch_size, self._max_wait_s = cost, max_batch_size, max_wait_s
        self.lanes, self._running, self._alone_until = lanes, 0, 0.0
        self._waiting: deque[Item] = deque()
        self._retries: deque[Part] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._gap_s = self._last = 0.0

    def __len__(self) -> int:
        """Pictures that wait, those that were cancelled included."""
        return len(self._waiting) + len(self._retries)

    @property
    def inputs(self) -> int:
        """Inputs of the session that wait."""
        with self._changed:
            return self._inputs() + len(self._retries)

    def put(self, item: Item) -> None:
        """Let a picture that is ready wait for the session."""
        with self._changed:
            if self._last:
                self._gap_s = average(self._gap_s, item.ready - self._last)
            self._last = item.ready
            self._waiting.append(item)
            self._changed.notify()

    def put_alone(self, parts: Iterable[Part]) -> None:
        """Let the parts of a batch that failed run one by one, before all others."""
        with self._changed:
            self._retries.extend(parts)
            self._changed.notify()

    def close(self) -> None:
        """Let :meth:`take` end; everything must have been answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> Batch | None:
        """Wait for the next batch; it may be empty; None means that the queue is closed.

        Whoever takes a batch gives it back by :meth:`done`.
        """
        late: list[Item] = []
        with self._changed:
            while not self._closed:
                if not self._may_take():
                    self._changed.wait(self._alone_left())
                    continue
                if not self._retries:
                    self._wait_for_more()
                if self._may_take():  # another lane may have been faster meanwhile
                    break
            if self._closed:
                return None
            batch = self._make(late)
            self._running += 1
            self._alone_until = 0.0 if batch.beside else time.perf_counter() + _ALONE_S
            if self._waiting:  # one picture may bring tiles for several lanes
                self._changed.notify()
        for item in late:  # outside the lock: an answer calls others
            item.fail_late()
        return Batch([part for part in batch.parts if not part.item.future.done()], batch.beside)

    def done(self, batch: Batch) -> None:
        """A batch has run."""
        with self._changed:
            self._running -= 1
            if not batch.beside:
                self._alone_until = 0.0
            self._changed.notify_all()

    def _may_take(self) -> bool:
        return bool(self._waiting or self._retries) and self._alone_left() is None

    def _alone_left(self) -> float | None:
        """Seconds for which a picture may still have the machine to itself; None without one."""
        left = self._alone_until - time.perf_counter() if self._alone_until else 0.0
        return left if left > 0 else None

    def _make(self, late: list[Item]) -> Batch:
        """The next inputs; those that nobody waits for any more go to ``late``."""
        several = self.lanes > 1
        if self._retries:
            part = self._retries.popleft()
            if part.item.is_late(time.perf_counter()):
                late.append(part.item)
            return Batch([part], several)
        waiting, free = self._inputs(), self.lanes - self._running
        beside = several and (waiting > 1 or self._running > 0)
        # At least one: pictures that were cancelled count as none, and must leave all the same.
        share = max(1, min(self._max_batch_size, -(-waiting // free)))
        return Batch(self._fill(late, share), beside)

    def _inputs(self) -> int:
        return sum(item.tiles_left for item in self._waiting)

    def _wait_for_more(self) -> None:
        limit = time.perf_counter() + self._max_wait_s
        while self._max_wait_s and not self._closed:
            inputs = self._inputs()
            left = limit - time.perf_counter()
            if inputs >= self._max_batch_size or left <= 0:
                return
            if not self._cost.is_waiting_worth(inputs, self._gap_s):
                return
            if not self._changed.wait(min(left, 2 * self._gap_s)):
                return  # what was due has not come

    def _fill(self, late: list[Item], most: int) -> list[Part]:
        batch: list[Part] = []
        now = time.perf_counter()
        while self._waiting and len(batch) < most:
            item = self._waiting.popleft()
            if item.is_late(now):
                late.append(item)
            elif part := self._take_tile(item):
                batch.append(part)
        return batch

    def _take_tile(self, item: Item) -> Part | None:
        """The item's next tile; a picture may be cancelled until its last one is taken."""
        picture = item.picture
        if picture is None or item.future.done():  # cancelled, or failed with an earlier tile
            return None
        part = Part(item, picture, item.next_tile)
        item.next_tile += 1
        if item.next_tile < len(picture):
            self._waiting.append(item)
        elif not item.future.set_running_or_notify_cancel():
            return None
        return part
