"""Waiting for a service that a test has started."""

import time
import urllib.request

import psutil


def wait_for_rest(process: psutil.Process) -> None:
    """A signal has been sent to it; the system needs a moment to stop it."""
    limit = time.monotonic() + 60
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < limit, f"{process} was not suspended within 60 s"
        time.sleep(0.01)


def wait_until_ready(port: str) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service was not ready within 60 s")
