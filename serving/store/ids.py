"""Ids that sort by time: UUIDv7 (RFC 9562, section 5.7) as text."""

import re
import secrets
import threading
import time
import uuid

_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A new id; later than every id that this process has given before.

    The 48 bits of milliseconds are followed by 12 bits of their fraction (method 3 of section
    6.2), counted on where the clock stands still or goes back, and 62 random bits.
    """
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() * 4096 // 1_000_000)
        ticks = _last
    return _text(ticks, secrets.randbits(62))


def least_id(time_us: int) -> str:
    """The least id whose :func:`time_us_of` is at least this time."""
    return _text(-(-time_us * 4096 // 1000), 0)


def time_us_of(key: str) -> int:
    """When an id was given, in microseconds since 1970 (UTC)."""
    high = uuid.UUID(key).int >> 64
    return ((high >> 16) << 12 | high & 0xFFF) * 1000 // 4096


def is_id(text: str) -> bool:
    """Whether it has the form of an id."""
    return _FORM.fullmatch(text) is not None


def _text(ticks: int, low: int) -> str:
    high = (ticks >> 12) << 16 | 0x7000 | ticks & 0xFFF
    return str(uuid.UUID(int=high << 64 | 1 << 63 | low))


def now_us() -> int:
    """Microseconds since 1970 (UTC)."""
    return time.time_ns() // 1000
