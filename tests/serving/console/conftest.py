"""One real service with its console, and one browser, for all tests of the pages."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, FileChooser, FilePayload, Page

from tests.browser import open_browser
from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.service import wait_until_ready
from tests.serving.test_server import free_port
from twonines.models.card import Policy
from twonines.serving.people.people import People
from twonines.serving.people.roles import Role
from twonines.serving.store.database import Database

ROOT = Path(__file__).parents[3]
PASSWORD = "correct horse battery"
PATIENCE_MS = 120_000
"""Nothing is timed: a busy machine only makes the tests slower."""


@dataclass(frozen=True)
class Site:
    """A running service and its folders."""

    port: int
    models: Path
    data: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as made:
        yield made


def serve_console(folder: Path, **settings: str) -> tuple[Site, "subprocess.Popen[bytes]"]:
    site = Site(free_port(), folder / "models", folder / "data")
    for version, threshold in (("1", 0.5), ("2", 0.6)):
        place = site.models / "tiny" / version
        place.mkdir(parents=True)
        policy = Policy(threshold=threshold, accept_below=0.4)
        write_tiny_model(place / "model.onnx", tiny_card(version=version, policy=policy))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]),
        "TWONINES_DATA_DIR": str(site.data),
        "TWONINES_KEEP_PICTURES": "all",
        "TWONINES_MAX_BYTES": str(2**20),
        **settings,
    }
    command = [sys.executable, "-m", "twonines", "serve", "--model-dir", str(site.models)]
    process = subprocess.Popen([*command, "--port", str(site.port)], env=environment)
    return site, process


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Site]:
    made, process = serve_console(tmp_path_factory.mktemp("console"))
    try:
        wait_until_ready(str(made.port))
        yield made
    finally:
        process.terminate()
        assert process.wait(60) in (0, -15)


PASSWORD = "correct horse battery"
Guarded = tuple[Site, dict[Role, str]]


@contextmanager
def serve_guarded(folder: Path, **settings: str) -> Iterator[Guarded]:
    """A service with a user and a key of each role; both are named as the role."""
    (folder / "data").mkdir()
    database = Database.in_folder(folder / "data")
    database.migrate()
    people = People(database)
    secrets = {}
    for role in Role:
        secrets[role] = people.keys.add(str(role), role, "test")[0]
        people.accounts.add(str(role), role, PASSWORD, "test")
    database.close()
    site, process = serve_console(folder, **settings)
    try:
        wait_until_ready(str(site.port))
        yield site, secrets
    finally:
        process.terminate()
        assert process.wait(60) in (0, -15)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with serve_guarded(tmp_path_factory.mktemp("guarded")) as made:
        yield made


def log_in(context: BrowserContext, site: Site, name: str, password: str = PASSWORD) -> Page:
    """A page of the console, after the login."""
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{site.url}/login")
    page.locator("#name").fill(name)
    page.locator("#password").fill(password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/*")
    return page


Open = Callable[..., Page]


@pytest.fixture
def open_page(site: Site, browser: Browser) -> Iterator[Open]:
    """Opens a page of the console; no page may ask another machine for anything, nor fail."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    strangers: list[str] = []
    faults: list[str] = []
    context.on(
        "request",
        lambda r: (
            None
            if r.url.startswith(("http://127.0.0.1:", "data:", "blob:"))
            else strangers.append(r.url)
        ),
    )

    def open_(path: str = "") -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{site.url}/console/{path}")
        page.wait_for_selector(".nicegui-content > *")
        return page

    yield open_
    context.close()
    assert strangers == []
    assert faults == []


def picture(name: str, value: int) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": png(value)}


def choose(page: Page, mark: str) -> FileChooser:
    """Press for the file chooser of the drop zone of this mark."""
    with page.expect_file_chooser() as chooser:
        page.locator(f"[data-mark={mark}] button").first.click()
    return chooser.value


def drop(page: Page, mark: str, *files: FilePayload) -> None:
    """Choose files in the drop zone of this mark."""
    choose(page, mark).set_files(list(files))
