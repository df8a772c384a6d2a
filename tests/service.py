"""Waiting for what a test has started or caused."""

import time
import urllib.request
from collections.abc import Callable

import psutil

PATIENCE_S = 60.0


def wait_for(is_so: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < limit, f"this was not so within {PATIENCE_S:.0f} s"
        time.sleep(0.005)


def is_suspended(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)


def wait_until_ready(port: str) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service was not ready within 60 s")
