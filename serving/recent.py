"""The last pictures that were inspected, so that a verdict can be shown."""

import secrets
import threading
import time
from collections import OrderedDict


class Recent:
    """Keeps encoded pictures by inspection id until newer ones need the room."""

    def __init__(self, max_bytes: int) -> None:
        """Keep at most ``max_bytes``; 0 keeps none."""
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep a picture; gives its id, which sorts by time and cannot be guessed."""
        key = f"{time.time_ns():016x}{secrets.token_hex(8)}"
        with self._lock:
            if len(data) <= self._max_bytes:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest)
        return key

    def get(self, key: str) -> bytes | None:
        """The picture, or None where it is unknown or had to make room."""
        with self._lock:
            return self._kept.get(key)
