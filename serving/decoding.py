"""The stage that decodes and resizes, in threads of its own."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from twonines.models.image import count_pixels
from twonines.models.inspector import Inspector, Prepared
from twonines.serving.metrics import Metrics
from twonines.serving.references import ReferenceImages
from twonines.serving.room import SMALL_PIXELS, DecodeRoom
from twonines.serving.work import Answer, Item


class DecodeStage:
    """Turns the bytes of items into prepared pictures, and hands them on.

    Large pictures are decoded within ``max_decode_pixels`` together. A picture in tiles counts
    against them, whatever its size, until it is answered, because its pixels stay in memory. What
    was cancelled or is late is not even looked at.
    """

    def __init__(
        self,
        inspector: Inspector,
        hand_on: Callable[[Item, Prepared, float], None],
        *,
        workers: int,
        max_pixels: int,
        max_decode_pixels: int,
        metrics: Metrics,
    ) -> None:
        """Start the threads; ``hand_on`` takes each item, its picture and the seconds."""
        self._inspector, self._hand_on, self._metrics = inspector, hand_on, metrics
        self._max_pixels = max_pixels
        self._tiling = inspector.card.tiling
        self._references = ReferenceImages(max_pixels)
        self.room: DecodeRoom[Item] = DecodeRoom(
            max_decode_pixels, 0 if self._tiling else SMALL_PIXELS
        )
        self._pool = ThreadPoolExecutor(workers, "decode")

    def put(self, item: Item) -> None:
        """Take an item; one that fails gets its error."""
        self._pool.submit(self._admit, item)

    def close(self) -> None:
        """Stop the threads; everything must have been answered."""
        self._pool.shutdown(wait=True)

    def _admit(self, item: Item) -> None:
        """Decode the picture, or leave it to whoever ends a large one; then do the same."""
        if not self._is_wanted(item):
            return
        self._decode_while(self.room.enter(item, self._count_pixels(item.data, item.reference)))

    def _count_pixels(self, data: bytes, reference: bytes | None) -> int:
        pixels = count_pixels(data)
        # What is too large anyway is refused by its header and needs no room.
        pixels = pixels if pixels <= self._max_pixels else 0
        if pixels and self._tiling:  # its resized copy, and that of its reference
            copies = 1 if reference is None else 2
            pixels = math.ceil(pixels * max(1.0, self._tiling.scale**2) * copies)
        if pixels and reference is not None:
            pixels += min(count_pixels(reference), self._max_pixels)
        return pixels

    def _decode_while(self, turn: tuple[Item, int] | None) -> None:
        while turn:
            item, pixels = turn
            try:
                self._decode(item)
            finally:
                if self._tiling:  # its pixels stay until the last tile
                    item.future.add_done_callback(partial(self._give_back, pixels))
                    turn = None
                else:
                    turn = self.room.leave(pixels)

    def _give_back(self, pixels: int, _: "Future[Answer]") -> None:
        """Let a picture that waits for room be decoded."""
        if turn := self.room.leave(pixels):
            with suppress(RuntimeError):  # closed, and so it was cancelled
                self._pool.submit(self._decode_while, turn)

    def _is_wanted(self, item: Item) -> bool:
        if item.is_late(time.perf_counter()):
            item.fail_late()
        return not item.future.done()

    def _decode(self, item: Item) -> None:
        data, reference = item.data, item.reference  # a cancel empties the item
        if not self._is_wanted(item):
            return
        start = time.perf_counter()
        try:
            image, size = self._inspector.decode(data, max_pixels=self._max_pixels)
            golden = None if reference is None else self._references.get(reference)
            decoded = time.perf_counter()
            picture = self._inspector.prepare(image, golden, size)
        except BaseException as exc:
            item.fail(exc)
            return
        item.data, item.reference = b"", None
        item.ready = time.perf_counter()
        item.timings_ms["decode_queue"] = (start - item.arrived) * 1e3
        item.timings_ms["decode"] = (decoded - start) * 1e3
        item.timings_ms["resize"] = (item.ready - decoded) * 1e3
        self._metrics.decode_queue.observe(start - item.arrived)
        self._metrics.decode.observe(decoded - start)
        self._metrics.resize.observe(item.ready - decoded)
        self._hand_on(item, picture, item.ready - start)
