"""Memory that training frees stays with the process, and only as long as it trains."""

import ctypes
import platform
import resource

import pytest

from twonines.training.allocator import freed_memory_kept

BLOCK = 64 * 2**20


@pytest.fixture(scope="module")
def libc() -> ctypes.CDLL:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return library


def faults(library: ctypes.CDLL) -> int:
    """Pages that the system had to find for a block that is taken, filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(BLOCK)
    library.memset(block, 1, BLOCK)
    library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_freed_block_is_taken_again_without_asking_the_system(libc: ctypes.CDLL) -> None:
    pages = BLOCK // resource.getpagesize()
    with freed_memory_kept():
        faults(libc)
        assert faults(libc) < 0.05 * pages
    assert faults(libc) > 0.5 * pages and faults(libc) > 0.5 * pages


def test_an_error_inside_gives_it_back_too(libc: ctypes.CDLL) -> None:
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
    faults(libc)
    assert faults(libc) > 0.5 * BLOCK // resource.getpagesize()
