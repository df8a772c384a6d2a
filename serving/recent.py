"""The last pictures that were inspected, so that a verdict can be shown."""

import threading
from collections import OrderedDict

Kept = tuple[bytes, bytes | None, str]
"""An encoded picture, its encoded reference, and the digest of the model that inspected it."""


class Recent:
    """Keeps encoded pictures by inspection id until newer ones need the room."""

    def __init__(self, max_bytes: int) -> None:
        """Keep at most ``max_bytes``; 0 keeps none."""
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, reference: bytes | None = None, digest: str = "") -> None:
        """Keep a picture, its reference and the digest of the model that inspected it."""
        size = len(data) + len(reference or b"")
        with self._lock:
            if size <= self._max_bytes:
                self._kept[key] = data, reference, digest
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, (old, its_reference, _) = self._kept.popitem(last=False)
                self._bytes -= len(old) + len(its_reference or b"")

    def get(self, key: str) -> Kept | None:
        """What was kept, or None where it is unknown or had to make room."""
        with self._lock:
            return self._kept.get(key)
