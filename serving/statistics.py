"""Counts and times of one loaded version, as the statistics extension tells them.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from typing import Any

from twonines.serving.work import Answer, Item

_WAITS = ("decode_queue", "queue")
_INPUTS = ("decode", "resize")


class _Duration:
    def __init__(self) -> None:
        self.count = self.ns = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * 1e9)

    def shown(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


class Statistics:
    """What a version has done since it was loaded, whatever protocol the pictures came by.

    Every picture is a request of its own here, since pictures are what waits and is batched. A
    picture that was taken and ended without an answer is a failure, a cancelled one too; what
    admission refused was never taken. One that was in the session when its client stopped waiting
    is a success: the work was done. ``compute_input`` is decode and resize, which are done for each
    picture and not for a batch, so ``batch_stats`` has none of it.
    """

    def __init__(self) -> None:
        """Nothing has been done."""
        self._lock = threading.Lock()
        self._success, self._fail = _Duration(), _Duration()
        self._queue, self._input = _Duration(), _Duration()
        self._infer, self._output = _Duration(), _Duration()
        self._batches: defaultdict[int, tuple[_Duration, _Duration]]
        self._batches = defaultdict(lambda: (_Duration(), _Duration()))
        self._last_ms = 0

    def note_batch(self, inputs: int, infer_s: float, output_s: float) -> None:
        """Take one batch that was run and decided."""
        with self._lock:
            infer, output = self._batches[inputs]
            infer.add(infer_s)
            output.add(output_s)

    def note_end(self, item: Item, future: "Future[Answer]") -> None:
        """Take the end of a picture, good or not."""
        seconds = time.perf_counter() - item.arrived
        is_good = not future.cancelled() and future.exception() is None
        times = future.result().timings_ms if is_good else {}
        with self._lock:
            if not is_good:
                self._fail.add(seconds)
                return
            self._last_ms = time.time_ns() // 1_000_000
            self._success.add(seconds)
            self._queue.add(sum(times.get(name, 0.0) for name in _WAITS) / 1e3)
            self._input.add(sum(times.get(name, 0.0) for name in _INPUTS) / 1e3)
            self._infer.add(times.get("compute", 0.0) / 1e3)
            self._output.add(times.get("decision", 0.0) / 1e3)

    def shown(self) -> dict[str, Any]:
        """The extension's fields but for name and version."""
        with self._lock:
            batches = sorted(self._batches.items())
            return {
                "last_inference": self._last_ms,
                "inference_count": self._success.count,
                "execution_count": sum(infer.count for _, (infer, _) in batches),
                "inference_stats": {
                    "success": self._success.shown(),
                    "fail": self._fail.shown(),
                    "queue": self._queue.shown(),
                    "compute_input": self._input.shown(),
                    "compute_infer": self._infer.shown(),
                    "compute_output": self._output.shown(),
                    "cache_hit": _Duration().shown(),
                    "cache_miss": _Duration().shown(),
                },
                "batch_stats": [
                    {
                        "batch_size": inputs,
                        "compute_input": _Duration().shown(),
                        "compute_infer": infer.shown(),
                        "compute_output": output.shown(),
                    }
                    for inputs, (infer, output) in batches
                ],
            }
