"""Budgets that keep the memory of everything in flight within bounds."""

import threading
from collections import deque
from typing import Generic, TypeVar

from twonines.errors import OverloadedError

T = TypeVar("T")
SMALL_PIXELS = 1_000_000
"""Smaller pictures are decoded at once: all workers together hold little of them."""


class DecodeRoom(Generic[T]):
    """Lets large pictures wait for each other, and small ones for none.

    A small upload can announce many pixels; as many of them as there are workers would not fit
    into memory. A worker that finds no room leaves the picture here and goes on with the next;
    whoever ends a large one takes over what waits.
    """

    def __init__(self, max_pixels: int, small: int = SMALL_PIXELS) -> None:
        """At most ``max_pixels`` of pictures above ``small`` at once, or one of any size."""
        self._max_pixels, self._small, self._used = max_pixels, small, 0
        self._waiting: deque[tuple[T, int]] = deque()
        self._lock = threading.Lock()

    def enter(self, item: T, pixels: int) -> tuple[T, int] | None:
        """What to decode now: the picture that came, an older one, or None."""
        if pixels <= self._small:
            return item, 0
        with self._lock:
            self._waiting.append((item, pixels))
            return self._next()

    def leave(self, pixels: int) -> tuple[T, int] | None:
        """Give room back after a picture; one to decode now, or None."""
        if not pixels:
            return None
        with self._lock:
            self._used -= pixels
            return self._next()

    def _next(self) -> tuple[T, int] | None:
        if self._waiting:
            pixels = self._waiting[0][1]
            if not self._used or self._used + pixels <= self._max_pixels:
                self._used += pixels
                return self._waiting.popleft()
        return None


class UploadRoom:
    """Bytes of the requests that are being read or answered; on the event loop only."""

    def __init__(self, max_bytes: int) -> None:
        """Room for ``max_bytes``."""
        self._max_bytes, self.used = max_bytes, 0

    def hold(self) -> "Held":
        """A share, empty at first, to be closed when the request is answered."""
        return Held(self)

    def take(self, count: int) -> None:
        """Take ``count`` bytes.

        Raises:
            OverloadedError: there is no room for them now.
        """
        if self.used + count > self._max_bytes:
            raise OverloadedError(
                f"body: uploads in flight may hold {self._max_bytes} bytes together and have no "
                f"room for {count} more, they hold {self.used}",
                1.0,
            )
        self.used += count


class Held:
    """One request's share of the room."""

    def __init__(self, room: UploadRoom) -> None:
        """Hold nothing yet."""
        self._room, self._bytes = room, 0

    def __enter__(self) -> "Held":
        """Hold until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        self._room.used -= self._bytes
        self._bytes = 0

    def grow_to(self, count: int) -> None:
        """Hold at least ``count`` bytes.

        Raises:
            OverloadedError: there is no room for them now.
        """
        if count > self._bytes:
            self._room.take(count - self._bytes)
            self._bytes = count
