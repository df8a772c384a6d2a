"""Memory that training frees stays with the process, and only as long as it trains."""

import ctypes
import mmap
import platform
import resource

import pytest

from twonines.training.allocator import freed_memory_kept

LARGE, MIDDLE = 64 * 2**20, 8 * 2**20


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")
    for name in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_",
                 "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def faults(library: ctypes.CDLL, size: int) -> float:
    """Share of a block's pages that the system had to find when it is taken, filled and freed."""
    block = library.malloc(size)
    page = resource.getpagesize()
    start = -(-block // page) * page  # huge pages would be counted as one
    library.madvise(start, size - page, mmap.MADV_NOHUGEPAGE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    library.memset(block, 1, size)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    library.free(block)
    return (after - before) * page / size


def test_a_freed_block_is_taken_again_without_asking_the_system(libc: ctypes.CDLL) -> None:
    with freed_memory_kept():
        faults(libc, LARGE)
        assert faults(libc, LARGE) < 0.05
    assert faults(libc, LARGE) > 0.5 and faults(libc, LARGE) > 0.5


def test_blocks_that_stayed_before_stay_afterwards(libc: ctypes.CDLL) -> None:
    with freed_memory_kept():
        pass
    faults(libc, MIDDLE)
    assert faults(libc, MIDDLE) < 0.05


def test_an_error_inside_gives_it_back_too(libc: ctypes.CDLL) -> None:
    with pytest.raises(KeyError), freed_memory_kept():
        raise KeyError
    faults(libc, LARGE)
    assert faults(libc, LARGE) > 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TOP_PAD_", "4096"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")],
)
def test_what_the_user_has_set_is_left(
    name: str, value: str, libc: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with freed_memory_kept():
        faults(libc, LARGE)
        assert faults(libc, LARGE) > 0.5
