"""A headless browser for tests of pages; a test that cannot have one is skipped by name."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The system's Chromium; Playwright's own download is not used."""
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs a Chromium on the path: apt-get install -y chromium")
    with sync_playwright() as playwright:
        # Without its sandbox, for inside containers tests run as root.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
