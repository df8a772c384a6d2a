"""What the C library does with memory that training frees."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MOST = -1, -2, -3, -4
"""Numbers of the settings in glibc's malloc.h."""
_KEEPING = {_MMAP_MOST: 0, _TRIM: 2**31 - 1, _TOP_PAD: 2**28}
# Once anything is set, glibc adapts its thresholds no more: this is as far as it would raise them.
_USUAL = {_MMAP_MOST: 65_536, _MMAP_THRESHOLD: 2**25, _TRIM: 2**26, _TOP_PAD: 2**17}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let freed memory stay with the process, as every step asks for the same blocks again.

    glibc gives a large block back to the system at once, and a step then waits for the pages of
    all its maps: a fifth of its time. Afterwards what is free is given back, and blocks of over
    32 MiB are again, each when it is freed. It holds for the main thread of this process and is
    not to be nested. Nothing is changed where the C library is another one, or where the user has
    set it up by the environment.
    """
    if platform.libc_ver()[0] != "glibc" or _is_set_up():
        yield
        return
    library = ctypes.CDLL(None)
    _set(library, _KEEPING)
    try:
        yield
    finally:
        _set(library, _USUAL)
        library.malloc_trim(0)


def _is_set_up() -> bool:
    own = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    return own or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


def _set(library: Any, values: dict[int, int]) -> None:
    for name, value in values.items():
        library.mallopt(name, value)
