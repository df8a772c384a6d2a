"""What the C library does with memory that training frees."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM, _TOP_PAD, _MMAP_MOST = -1, -2, -4
"""Numbers of the settings in glibc's malloc.h."""
_KEEPING = {_MMAP_MOST: 0, _TRIM: 2**31 - 1, _TOP_PAD: 2**28}
_USUAL = {_MMAP_MOST: 65_536, _TRIM: 2**17, _TOP_PAD: 2**17}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let freed memory stay with the process, as every step asks for the same blocks again.

    glibc gives a large block back to the system at once, and a step then waits for the pages of
    all its maps: a quarter of its time. Afterwards everything is given back. Where the C library
    is another one, nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    _set(library, _KEEPING)
    try:
        yield
    finally:
        _set(library, _USUAL)
        library.malloc_trim(0)


def _set(library: Any, values: dict[int, int]) -> None:
    for name, value in values.items():
        library.mallopt(name, value)
